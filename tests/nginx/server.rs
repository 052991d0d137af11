//! A real nginx with a folder of its own, the backend behind it, and a client that changes no byte.
//!
//! All sockets are Unix sockets in that folder: no port can be taken by somebody else, and each scene has a
//! default server of its own.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ingress_wasm_echo::wire::{Framing, Head, head_length};
use tempfile::TempDir;

use crate::generate::Request;
use crate::outcome::Outcome;

const SOON: Duration = Duration::from_secs(30);

/// nginx and its backend; they end when this is dropped.
pub struct Nginx {
    process: Child,
    folder: TempDir,
}

/// Where nginx is: `$NGINX`, else on the PATH or where distributions put it.
pub fn program() -> Result<PathBuf, String> {
    if let Some(program) = std::env::var_os("NGINX") {
        return Ok(program.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = folders.map(|folder| folder.join("nginx")).find(|program| program.is_file());
    found.ok_or_else(|| "there is no nginx on the PATH; $NGINX can name one".to_owned())
}

/// The socket of a scene, as `listen` takes it.
pub fn socket(folder: &Path, number: usize) -> String {
    format!("unix:{}", folder.join(format!("{number}.sock")).display())
}

impl Nginx {
    /// Starts nginx with the servers that `write` gives for a folder of sockets.
    pub fn start(program: &Path, servers: impl FnOnce(&Path) -> String) -> Result<Self, String> {
        let folder = tempfile::Builder::new().prefix("nginx").tempdir().map_err(|error| error.to_string())?;
        let at = folder.path();
        start_echo(&at.join("echo"), |head| {
            let target = head.start.splitn(2, |byte| *byte == b' ').nth(1).unwrap_or_default();
            let target = target.strip_suffix(b" HTTP/1.1").unwrap_or(target);
            let prefix = head.values("X-Forwarded-Prefix").next().unwrap_or_default();
            let body = [target, b"\n", prefix].concat();
            let mut answer =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
            answer.extend_from_slice(&body);
            answer
        })?;
        start_echo(&at.join("nothing"), |_| b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec())?;
        let shown = at.display();
        let config = format!(
            r#"daemon off;
master_process off;
pid {shown}/pid;
error_log {shown}/error.log;
events {{ worker_connections 1000; }}
http {{
  access_log off;
  client_body_temp_path {shown}/body;
  proxy_temp_path {shown}/proxy;
  fastcgi_temp_path {shown}/fastcgi;
  uwsgi_temp_path {shown}/uwsgi;
  scgi_temp_path {shown}/scgi;
  keepalive_requests 1000000;
  keepalive_timeout 600s;
  client_header_buffer_size 16k;
  large_client_header_buffers 4 64k;
  server_names_hash_max_size 4096;
  server_names_hash_bucket_size 128;
  variables_hash_max_size 4096;
  port_in_redirect off;
  server_name_in_redirect off;
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  proxy_redirect off;
  upstream echo {{ server unix:{shown}/echo; keepalive 8; }}
  upstream nothing {{ server unix:{shown}/nothing; keepalive 8; }}
  map $request_uri $without_slash {{ default $request_uri; "~^(?<before>.*)/$" $before; }}
  map $http_host $host_without_port {{ default $http_host; "~^(?<name>[^:]*):" $name; }}
{}
}}
"#,
            servers(at)
        );
        let file = at.join("nginx.conf");
        std::fs::write(&file, config).map_err(|error| error.to_string())?;
        let process = Command::new(program)
            .arg("-p")
            .arg(at)
            .arg("-e")
            .arg(at.join("error.log"))
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let mut nginx = Nginx { process, folder };
        nginx.wait()?;
        Ok(nginx)
    }

    /// Waits until the sockets are there; nginx opens all of them before it writes its process number.
    fn wait(&mut self) -> Result<(), String> {
        let end = Instant::now() + SOON;
        loop {
            let number = std::fs::read_to_string(self.folder.path().join("pid")).unwrap_or_default();
            if !number.trim().is_empty() {
                return Ok(());
            }
            let ended = self.process.try_wait().map_err(|error| error.to_string())?;
            if let Some(status) = ended {
                return Err(format!("nginx ended with {status}\n{}", self.log()));
            }
            if Instant::now() > end {
                return Err(format!("nginx does not start\n{}", self.log()));
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// What nginx had to say.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("error.log")).unwrap_or_default()
    }

    /// A connection to the server of a scene.
    pub fn connect(&self, number: usize) -> Result<Connection, String> {
        let path = self.folder.path().join(format!("{number}.sock"));
        let connect = || UnixStream::connect(&path);
        let stream = connect().map_err(|error| format!("{}: {error}", path.display()))?;
        stream.set_read_timeout(Some(SOON)).map_err(|error| error.to_string())?;
        Ok(Connection { path, stream, buffer: Vec::new() })
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let number = i32::try_from(self.process.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(number) = number {
            // SIGQUIT would wait for open connections.
            let _ = rustix::process::kill_process(number, rustix::process::Signal::TERM);
        }
        let _ = self.process.wait();
    }
}

/// Answers every request on a socket until the process of the test ends.
fn start_echo(path: &Path, answer: impl Fn(&Head) -> Vec<u8> + Copy + Send + 'static) -> Result<(), String> {
    let listener = UnixListener::bind(path).map_err(|error| format!("{}: {error}", path.display()))?;
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut stream = stream;
                let mut buffer = Vec::new();
                while let Ok(Some(head)) = read_head(&mut stream, &mut buffer) {
                    if stream.write_all(&answer(&head)).is_err() {
                        return;
                    }
                }
            });
        }
    });
    Ok(())
}

/// The next head; none where the peer has ended.
fn read_head(stream: &mut UnixStream, buffer: &mut Vec<u8>) -> io::Result<Option<Head>> {
    loop {
        if let Some(length) = head_length(buffer) {
            let rest = buffer.split_off(length);
            let head = std::mem::replace(buffer, rest);
            return Head::parse(&head).map(Some).map_err(|_| io::ErrorKind::InvalidData.into());
        }
        if fill(stream, buffer)? == 0 {
            return Ok(None);
        }
    }
}

fn fill(stream: &mut UnixStream, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let mut bytes = [0; 16 << 10];
    let count = stream.read(&mut bytes)?;
    buffer.extend_from_slice(&bytes[..count]);
    Ok(count)
}

/// A connection that is kept, and made anew where nginx has closed it.
pub struct Connection {
    path: PathBuf,
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Sends a request and tells what came of it.
    pub fn ask(&mut self, request: &Request) -> Result<Outcome, String> {
        self.exchange(request).map_err(|error| format!("{request}: {error}"))
    }

    fn exchange(&mut self, request: &Request) -> io::Result<Outcome> {
        let Request { host, target } = request;
        let bytes = [b"GET ", &**target, b" HTTP/1.1\r\nHost: ", host, b"\r\n\r\n"].concat();
        self.stream.write_all(&bytes)?;
        let head = read_head(&mut self.stream, &mut self.buffer)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = head.start.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        let status = status.ok_or(io::ErrorKind::InvalidData)?;
        let body = self.body(&head, status)?;
        if head.has_token("Connection", "close") {
            self.stream = UnixStream::connect(&self.path)?;
            self.stream.set_read_timeout(Some(SOON))?;
            self.buffer.clear();
        }
        let text = |name| head.values(name).next().map(|value| String::from_utf8_lossy(value).into_owned());
        // A backend's answer is the target, a line end, and X-Forwarded-Prefix.
        let end = body
            .iter()
            .position(|byte| *byte == b'\n')
            .filter(|_| status == 200 && text("X-Service").is_some());
        Ok(Outcome {
            status,
            location: head.values("Location").next().map(<[u8]>::to_vec),
            rule: text("X-Rule"),
            service: text("X-Service"),
            target: end.and_then(|end| body.get(..end)).map(<[u8]>::to_vec),
            forwarded_prefix: end.and_then(|end| body.get(end + 1..)).unwrap_or_default().to_vec(),
        })
    }

    fn body(&mut self, head: &Head, status: u16) -> io::Result<Vec<u8>> {
        if status == 304 {
            return Ok(Vec::new());
        }
        let framing = head.framing().map_err(|_| io::ErrorKind::InvalidData)?;
        let Framing::Length(length) = framing else { return Err(io::ErrorKind::InvalidData.into()) };
        let length = usize::try_from(length).map_err(|_| io::ErrorKind::InvalidData)?;
        while self.buffer.len() < length {
            if fill(&mut self.stream, &mut self.buffer)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let rest = self.buffer.split_off(length);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }
}
