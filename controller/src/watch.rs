//! Tells when files in some directories may have changed.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// How often to look without being told: some file systems (of networks, of containers) tell nothing.
const PERIOD: Duration = Duration::from_secs(5);

/// Watches directories.
#[derive(Debug)]
pub struct FileWatch {
    /// None where the system has no way to watch; then only the period counts.
    watcher: Option<RecommendedWatcher>,
    directories: BTreeSet<PathBuf>,
    events: mpsc::Receiver<()>,
    /// Keeps the channel open where there is no watcher.
    _sender: mpsc::Sender<()>,
}

impl FileWatch {
    /// Watches these directories.
    pub fn start(directories: &BTreeSet<PathBuf>) -> Self {
        let (sender, events) = mpsc::channel(1);
        let wake = sender.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let only_read = event.is_ok_and(|event| event.kind.is_access());
            if !only_read {
                // Full means that someone is about to look anyway.
                let _ = wake.try_send(());
            }
        });
        let mut watch =
            FileWatch { watcher: watcher.ok(), directories: BTreeSet::new(), events, _sender: sender };
        watch.follow(directories);
        watch
    }

    /// Watches these directories too, as new ones appear.
    pub fn follow(&mut self, directories: &BTreeSet<PathBuf>) {
        let Some(watcher) = &mut self.watcher else { return };
        for directory in directories.difference(&self.directories.clone()) {
            if watcher.watch(directory, RecursiveMode::NonRecursive).is_ok() {
                self.directories.insert(directory.clone());
            }
        }
    }

    /// Waits until something may have changed and has then been quiet for a while, or a period is over.
    pub async fn changed(&mut self, quiet: Duration) {
        if tokio::time::timeout(PERIOD, self.events.recv()).await.is_err() {
            return;
        }
        while tokio::time::timeout(quiet, self.events.recv()).await.is_ok() {}
    }
}
