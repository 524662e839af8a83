//! A real `redis-server` on a port of its own, which keeps nothing on disk.

use std::{
    io::ErrorKind,
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::PATIENCE;

pub struct Redis {
    process: Option<Child>,
    folder: TempDir,
    port: u16,
    arguments: Vec<String>,
}

impl Redis {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    pub fn start_with(arguments: &[&str]) -> Self {
        let port = free_port();
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let folder = tempfile::tempdir().unwrap();
        let mut server = Self { process: None, folder, port, arguments };
        server.comes_back();
        server
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The section of a gate that counts here, with other keys.
    pub fn section(&self, keys: &str) -> String {
        format!("[limit]\nstore = \"{}\"\n{keys}\n", self.url())
    }

    pub fn connection(&self) -> redis::Connection {
        redis::Client::open(self.url()).unwrap().get_connection().unwrap()
    }

    /// Kills it outright; all that it knew is gone.
    pub fn dies(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Starts it, empty, on the port it had.
    pub fn comes_back(&mut self) {
        let port = self.port.to_string();
        let alone = ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
        let started = Command::new("redis-server")
            .args(alone)
            .args(&self.arguments)
            .current_dir(self.folder.path())
            .stdout(Stdio::null())
            .spawn();
        self.process = Some(match started {
            Ok(process) => process,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                panic!("redis-server is missing (Debian: apt install redis-server)")
            }
            Err(error) => panic!("redis-server: {error}"),
        });
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < end, "redis-server does not listen on {}", self.port);
            sleep(Duration::from_millis(5));
        }
    }
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.dies();
    }
}
