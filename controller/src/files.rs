//! The files that hold manifests: which there are, and which changed since the last look.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// Endings of the files that are read in a directory.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];
/// How deep directories are followed, so that a link in a circle ends.
const MAX_DEPTH: usize = 32;

/// The files named on the command line, and those in the directories named there.
#[derive(Debug)]
pub struct FileSet {
    paths: Vec<PathBuf>,
    recursive: bool,
    seen: BTreeMap<PathBuf, Stamp>,
    /// Paths of the command line that could not be read, and why: told once.
    failed: BTreeMap<PathBuf, String>,
    stdin_read: bool,
}

/// What changes when a file does.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    size: u64,
    /// A file that is replaced by renaming another onto it may keep time and size.
    inode: u64,
}

/// What changed.
#[derive(Debug, Default)]
pub struct Changes {
    /// Files that are new or different, with their text or why they cannot be read.
    pub read: Vec<(Arc<str>, Result<String, String>)>,
    /// Files that are gone.
    pub removed: Vec<Arc<str>>,
}

impl Changes {
    /// Nothing changed.
    pub fn is_empty(&self) -> bool {
        self.read.is_empty() && self.removed.is_empty()
    }
}

impl FileSet {
    /// These files and directories; `-` is standard input.
    pub fn new(paths: &[String], recursive: bool) -> Self {
        FileSet {
            paths: paths.iter().map(PathBuf::from).collect(),
            recursive,
            seen: BTreeMap::new(),
            failed: BTreeMap::new(),
            stdin_read: false,
        }
    }

    /// The directories in which a change may show.
    pub fn directories(&self) -> BTreeSet<PathBuf> {
        let mut directories = BTreeSet::new();
        for path in self.paths.iter().filter(|path| !is_stdin(path)) {
            if path.is_dir() {
                directories.insert(path.clone());
            } else {
                // Editors and mounted ConfigMaps replace a file: its directory tells.
                let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                directories.insert(parent.unwrap_or(Path::new(".")).to_owned());
            }
        }
        directories.extend(
            self.seen
                .keys()
                .filter_map(|file| file.parent())
                .filter(|p| !p.as_os_str().is_empty())
                .map(Path::to_owned),
        );
        directories
    }

    /// Looks at all files and reads those that changed since the last time.
    pub fn scan(&mut self) -> Changes {
        let mut changes = Changes::default();
        let mut found = BTreeMap::new();
        for path in self.paths.clone() {
            if is_stdin(&path) {
                if !std::mem::replace(&mut self.stdin_read, true) {
                    changes.read.push(("-".into(), read_stdin()));
                }
                continue;
            }
            match self.collect(&path, &mut found, 0) {
                Ok(()) => {
                    if self.failed.remove(&path).is_some() && path.is_dir() {
                        // What stood for the folder while it could not be read.
                        changes.removed.push(name(&path));
                    }
                }
                Err(error) => {
                    let error = error.to_string();
                    if self.failed.insert(path.clone(), error.clone()).as_ref() != Some(&error) {
                        changes.read.push((name(&path), Err(error)));
                    }
                }
            }
        }
        for file in self.seen.keys().filter(|file| !found.contains_key(*file)) {
            changes.removed.push(name(file));
        }
        let changed: Vec<&PathBuf> = found
            .iter()
            .filter(|(file, stamp)| self.seen.get(*file) != Some(*stamp))
            .map(|(file, _)| file)
            .collect();
        for file in changed {
            let text = std::fs::read(file).map_err(|error| error.to_string());
            let text = text
                .and_then(|bytes| String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned()));
            changes.read.push((name(file), text));
        }
        self.seen = found;
        changes
    }

    fn collect(
        &self,
        path: &Path,
        found: &mut BTreeMap<PathBuf, Stamp>,
        depth: usize,
    ) -> std::io::Result<()> {
        let metadata = std::fs::metadata(path)?;
        if !metadata.is_dir() {
            found.insert(path.to_owned(), stamp(&metadata));
            return Ok(());
        }
        for entry in std::fs::read_dir(path)? {
            let path = entry?.path();
            // A file may vanish between the listing and the look at it.
            let Ok(metadata) = std::fs::metadata(&path) else { continue };
            let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if metadata.is_dir() {
                if self.recursive && !hidden && depth < MAX_DEPTH {
                    self.collect(&path, found, depth + 1)?;
                }
            } else if !hidden && is_manifest(&path) {
                found.insert(path, stamp(&metadata));
            }
        }
        Ok(())
    }
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn is_manifest(path: &Path) -> bool {
    path.extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|extension| EXTENSIONS.contains(&extension))
}

fn name(path: &Path) -> Arc<str> {
    path.to_string_lossy().into()
}

fn stamp(metadata: &std::fs::Metadata) -> Stamp {
    use std::os::unix::fs::MetadataExt;
    Stamp { modified: metadata.modified().ok(), size: metadata.len(), inode: metadata.ino() }
}

fn read_stdin() -> Result<String, String> {
    let mut text = String::new();
    std::io::stdin().lock().read_to_string(&mut text).map_err(|error| error.to_string())?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(changes: &Changes) -> (Vec<String>, Vec<String>) {
        let base = |name: &Arc<str>| {
            Path::new(&**name).file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
        };
        (
            changes.read.iter().map(|(name, _)| base(name)).collect(),
            changes.removed.iter().map(base).collect(),
        )
    }

    #[test]
    fn changes_are_seen_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        for name in ["b.yaml", "a.yml", "c.json", "d.txt", ".e.yaml"] {
            std::fs::write(path(name), name).expect("writes");
        }
        std::fs::create_dir(path("sub")).expect("a directory");
        std::fs::write(path("sub/f.yaml"), "f").expect("writes");
        let root = directory.path().to_string_lossy().into_owned();
        let mut files = FileSet::new(std::slice::from_ref(&root), false);
        assert_eq!(names(&files.scan()).0, ["a.yml", "b.yaml", "c.json"]);
        assert!(files.scan().is_empty());
        std::fs::write(path("b.yaml"), "longer").expect("writes");
        std::fs::remove_file(path("c.json")).expect("removes");
        assert_eq!(names(&files.scan()), (vec!["b.yaml".to_owned()], vec!["c.json".to_owned()]));
        let mut files = FileSet::new(&[root], true);
        assert_eq!(names(&files.scan()).0, ["a.yml", "b.yaml", "f.yaml"]);
    }

    #[test]
    fn named_paths_come_and_go() {
        let directory = tempfile::tempdir().expect("a directory");
        let (file, folder) = (directory.path().join("a.yaml"), directory.path().join("folder"));
        let paths = [&file, &folder].map(|path| path.to_string_lossy().into_owned());
        std::fs::write(&file, "a").expect("writes");
        let mut files = FileSet::new(&paths, false);
        assert_eq!(names(&files.scan()), (vec!["folder".to_owned(), "a.yaml".to_owned()], vec![]));
        assert!(files.scan().is_empty(), "what cannot be read is told once");
        std::fs::remove_file(&file).expect("removes");
        let changes = files.scan();
        assert_eq!(names(&changes), (vec!["a.yaml".to_owned()], vec!["a.yaml".to_owned()]));
        assert!(changes.read.iter().all(|(_, text)| text.is_err()), "{changes:?}");
        assert!(files.scan().is_empty());
        std::fs::create_dir(&folder).expect("a directory");
        std::fs::write(folder.join("b.yaml"), "b").expect("writes");
        std::fs::write(&file, "back").expect("writes");
        assert_eq!(
            names(&files.scan()),
            (vec!["a.yaml".to_owned(), "b.yaml".to_owned()], vec!["folder".to_owned()])
        );
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        let directory = tempfile::tempdir().expect("a directory");
        let missing = directory.path().join("missing.yaml").to_string_lossy().into_owned();
        let binary = directory.path().join("binary.yaml");
        std::fs::write(&binary, [0xff, 0xfe]).expect("writes");
        let mut files = FileSet::new(&[missing, binary.to_string_lossy().into_owned()], false);
        let changes = files.scan();
        assert_eq!(changes.read.iter().filter(|(_, text)| text.is_err()).count(), 2, "{changes:?}");
    }
}
