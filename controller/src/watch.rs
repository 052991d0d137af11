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
    /// An event was taken from the channel and not told yet.
    pending: bool,
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
        let mut watch = FileWatch {
            watcher: watcher.ok(),
            directories: BTreeSet::new(),
            events,
            pending: false,
            _sender: sender,
        };
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

    /// Waits until something may have changed and has then been quiet for a while, or a period is over. The
    /// wait may be given up and begun again at any time without losing a change.
    pub async fn changed(&mut self, quiet: Duration) {
        if !self.pending {
            if tokio::time::timeout(PERIOD, self.events.recv()).await.is_err() {
                return;
            }
            self.pending = true;
        }
        while tokio::time::timeout(quiet, self.events.recv()).await.is_ok() {}
        self.pending = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wait that is given up while it looks for quiet, as in a `select!` where something else happens.
    #[tokio::test]
    async fn a_change_outlives_a_wait_that_is_given_up() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut watch = FileWatch::start(&BTreeSet::from([directory.path().to_owned()]));
        std::fs::write(directory.path().join("a.yaml"), "a").expect("writes");
        let endless_quiet = Duration::from_secs(3600);
        while !watch.pending {
            let _ = tokio::time::timeout(Duration::from_millis(20), watch.changed(endless_quiet)).await;
        }
        let began = std::time::Instant::now();
        watch.changed(Duration::from_millis(1)).await;
        assert!(began.elapsed() < PERIOD, "told only by the period");
        assert!(!watch.pending);
    }
}
