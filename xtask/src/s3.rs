//! `cargo xtask s3`: the store's blobs against a server that speaks S3.
//!
//! The server is [moto](https://docs.getmoto.org), of which a Python environment in `target/tools/moto` is
//! used, or what is in the path.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{cargo, root, run};

/// How long the server may take to start: it is Python.
const START: Duration = Duration::from_secs(30);

/// The server; ended with its handle.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn run_tests() -> Result<()> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port();
    let own = root().join("target/tools/moto/bin/moto_server");
    let program = match own.exists() {
        true => own,
        false => PathBuf::from("moto_server"),
    };
    let server = Command::new(program)
        .args(["-H", "127.0.0.1", "-p", &port.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context(
            "there is no moto_server; make one with: python3 -m venv target/tools/moto && \
             target/tools/moto/bin/pip install 'moto[server]'",
        )?;
    let _server = Server(server);
    let begun = Instant::now();
    while let Err(error) = make_bucket(port) {
        if begun.elapsed() > START {
            return Err(error).context("moto_server does not start");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut tests = cargo(&["test", "-p", "optwasm-store", "--test", "s3"]);
    tests
        .env("OPTWASM_TEST_S3", "s3://bucket/tests")
        .env("AWS_ENDPOINT", format!("http://127.0.0.1:{port}"))
        .env("AWS_ALLOW_HTTP", "true")
        // The server accepts any.
        .env("AWS_ACCESS_KEY_ID", "any")
        .env("AWS_SECRET_ACCESS_KEY", "any");
    run(&mut tests)
}

/// `PUT /bucket`, which takes no more than this.
fn make_bucket(port: u16) -> Result<()> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    let request =
        "PUT /bucket HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split(' ').nth(1) {
        Some("200") => Ok(()),
        _ => bail!("moto_server answers: {answer}"),
    }
}
