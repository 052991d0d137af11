//! Many Ingress objects with their Services and EndpointSlices, as YAML files.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};

/// Objects in a file.
const PER_FILE: usize = 100;

/// How many of what.
pub struct Objects {
    /// Ingress objects, each with a host of its own.
    pub ingresses: usize,
    /// Paths of each Ingress.
    pub paths: usize,
    /// Services, each with an EndpointSlice of one endpoint; Ingress objects take turns.
    pub services: usize,
    /// The endpoint of all of them.
    pub backend: SocketAddr,
}

impl Objects {
    /// The host of an Ingress.
    pub fn host(ingress: usize) -> String {
        format!("host-{ingress}.example")
    }

    /// Writes all files.
    pub fn write(&self, folder: &Path) -> Result<()> {
        for start in (0..self.ingresses).step_by(PER_FILE) {
            write(&file(folder, "ingresses", start), &self.ingress_file(start, None))?;
        }
        for start in (0..self.services).step_by(PER_FILE) {
            let mut text = String::new();
            for service in start..self.services.min(start + PER_FILE) {
                self.service(&mut text, service);
            }
            write(&file(folder, "services", start), &text)?;
        }
        Ok(())
    }

    /// Gives an Ingress a further path and says when its file was in place. It gets there by a rename, so
    /// that nobody reads half of it.
    pub fn change(&self, folder: &Path, ingress: usize, path: &str) -> Result<Instant> {
        let start = ingress - ingress % PER_FILE;
        let target = file(folder, "ingresses", start);
        // The name says that it is no manifest.
        let fresh = target.with_extension("new");
        write(&fresh, &self.ingress_file(start, Some((ingress, path))))?;
        fs::rename(&fresh, &target).with_context(|| format!("replace {}", target.display()))?;
        Ok(Instant::now())
    }

    fn ingress_file(&self, start: usize, further: Option<(usize, &str)>) -> String {
        let mut text = String::new();
        for ingress in start..self.ingresses.min(start + PER_FILE) {
            let path = further.filter(|(changed, _)| *changed == ingress).map(|(_, path)| path);
            self.ingress(&mut text, ingress, path);
        }
        text
    }

    fn ingress(&self, text: &mut String, ingress: usize, further: Option<&str>) {
        let service = ingress % self.services;
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\n\
             metadata: {{name: ingress-{ingress}, namespace: default}}\n\
             spec:\n  ingressClassName: nginx\n  rules:\n  - host: {}\n    http:\n      paths:\n",
            Self::host(ingress)
        );
        for path in (0..self.paths).map(|path| format!("/p{path}")).chain(further.map(str::to_owned)) {
            let _ = writeln!(
                text,
                "      - {{path: {path}, pathType: Prefix, \
                 backend: {{service: {{name: service-{service}, port: {{number: 80}}}}}}}}"
            );
        }
    }

    fn service(&self, text: &mut String, service: usize) {
        let (address, port) = (self.backend.ip(), self.backend.port());
        let _ = write!(
            text,
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: service-{service}, namespace: default}}\n\
             spec: {{ports: [{{name: http, port: 80, targetPort: {port}}}]}}\n\
             ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: service-{service}-a, namespace: default, \
             labels: {{kubernetes.io/service-name: service-{service}}}}}\n\
             addressType: IPv4\nports: [{{name: http, port: {port}, protocol: TCP}}]\n\
             endpoints: [{{addresses: [{address}], conditions: {{ready: true}}}}]\n"
        );
    }
}

fn file(folder: &Path, kind: &str, start: usize) -> PathBuf {
    folder.join(format!("{kind}-{start:06}.yaml"))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_touches_one_file_and_one_ingress() {
        let folder = tempfile::tempdir().unwrap();
        let objects =
            Objects { ingresses: 250, paths: 2, services: 10, backend: "127.0.0.1:9".parse().unwrap() };
        objects.write(folder.path()).unwrap();
        let read = || {
            let mut files: Vec<(PathBuf, String)> = fs::read_dir(folder.path())
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .map(|path| (path.clone(), fs::read_to_string(path).unwrap()))
                .collect();
            files.sort();
            files
        };
        let before = read();
        assert_eq!(before.len(), 4, "three files of Ingress objects and one of Services");
        objects.change(folder.path(), 130, "/new").unwrap();
        let after = read();
        let changed: Vec<_> = before.iter().zip(&after).filter(|(before, after)| before != after).collect();
        assert_eq!((after.len(), changed.len()), (4, 1));
        let (before, after) = (&changed[0].0.1, &changed[0].1.1);
        assert_eq!(after.lines().count(), before.lines().count() + 1);
        assert!(after.contains("path: /new"), "{after}");
    }
}
