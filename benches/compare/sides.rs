//! The processes: servers that are ended when dropped, and clients that are waited for.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::options::Placement;
use crate::own::Result;

/// One side of a row.
#[derive(Clone)]
pub(crate) struct Run {
    pub(crate) server: Server,
    pub(crate) client: Client,
    pub(crate) scheme: &'static str,
    /// The shape and its options, as floor-client takes them.
    pub(crate) load: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    /// In C, in one of its modes.
    Floor(&'static str),
    /// `sidewire serve`.
    Tool,
    /// The same, looking before it sleeps.
    Looking,
    /// The bench's own, with handlers that the tool does not have.
    Own,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Client {
    Floor,
    Own,
}

/// Where the C programs are, and the sockets.
pub(crate) struct Floor {
    folder: tempfile::TempDir,
}

impl Floor {
    pub(crate) fn build() -> Result<Floor> {
        let floor = Floor { folder: tempfile::tempdir()? };
        floor.compile("floor-server", &["server.c", "floor.c"])?;
        floor.compile("floor-client", &["client.c", "shapes.c", "helpers.c", "frames.c", "floor.c"])?;
        Ok(floor)
    }

    fn compile(&self, name: &str, files: &[&str]) -> Result<()> {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/floor");
        let mut cc = Command::new("cc");
        cc.args(["-O2", "-pthread", "-o"])
            .arg(self.program(name))
            .args(files.iter().map(|file| sources.join(file)));
        if cc.status()?.success() { Ok(()) } else { Err(format!("cc could not build {name}").into()) }
    }

    fn program(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// A server that runs.
pub(crate) struct Served {
    child: Child,
    /// As it has said, with the port.
    endpoint: String,
    server: Server,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Served {
    pub(crate) fn start(floor: &Floor, run: &Run, placement: Placement, serial: usize) -> Result<Served> {
        let endpoint = match run.scheme {
            "tcp" | "udp" => format!("{}:127.0.0.1:0", run.scheme),
            "abstract" => format!("abstract:sidewire-bench-{}-{serial}", std::process::id()),
            scheme => format!("{scheme}:{}", floor.program(&format!("{serial}.sock")).display()),
        };
        let mut command = match run.server {
            Server::Floor(mode) => {
                let mut command = placed(placement, &floor.program("floor-server"));
                command.arg(mode);
                command
            }
            Server::Tool | Server::Looking => {
                let mut command = placed(placement, Path::new(env!("CARGO_BIN_EXE_sidewire")));
                command.arg("serve");
                if run.server == Server::Looking {
                    command.args(["--spin", "1000"]);
                }
                if matches!(run.scheme, "tcp" | "udp") {
                    command.args(["--access", "anyone"]);
                }
                command
            }
            Server::Own => {
                let mut command = placed(placement, &std::env::current_exe()?);
                command.arg("serve");
                command
            }
        };
        let mut child = command.arg(&endpoint).env("RUST_LOG", "error").stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        let read = child.stdout.take().map(|out| BufReader::new(out).read_line(&mut line));
        let mut served = Served { child, endpoint: String::new(), server: run.server };
        read.ok_or("no output")??;
        let bound = line.trim().strip_prefix("listening ");
        served.endpoint = bound.ok_or_else(|| format!("the server at {endpoint} did not start"))?.to_string();
        Ok(served)
    }

    /// What the client says of one measurement.
    pub(crate) fn measure(
        &self,
        floor: &Floor,
        run: &Run,
        placement: Placement,
        fewer: usize,
    ) -> Result<Value> {
        let (shape, options) = run.load.split_first().ok_or("a load has a shape")?;
        let mut command = match run.client {
            Client::Floor => {
                let mut command = placed(placement, &floor.program("floor-client"));
                command.args([shape, &self.endpoint]).args(["--server-pid", &self.child.id().to_string()]);
                if !matches!(self.server, Server::Floor(_)) {
                    command.args(["--protocol", "v1"]);
                }
                command
            }
            Client::Own => {
                let mut command = placed(placement, &std::env::current_exe()?);
                command.args(["call", shape, &self.endpoint]);
                command
            }
        };
        command.args(options);
        if fewer > 1 && shape != "idle" {
            command.args(["--requests", &(requests(shape, options) / fewer).max(2).to_string()]);
        }
        let output = command.stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            return Err(format!("the client failed: {command:?}").into());
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

/// As many as a load has: what it says, or the client's default.
fn requests(shape: &str, options: &[String]) -> usize {
    let said = options.iter().position(|option| option == "--requests").and_then(|at| options.get(at + 1));
    said.and_then(|number| number.parse().ok()).unwrap_or(match shape {
        "window" => 200_000,
        "connections" => 50_000,
        "paced" => 2_000,
        "opens" => 1_000,
        "large" => 200,
        "fan" => 100,
        _ => 20_000,
    })
}

fn placed(placement: Placement, program: &Path) -> Command {
    match placement {
        Placement::Same => {
            let mut command = Command::new("taskset");
            command.args(["-c", "0"]).arg(program);
            command
        }
        Placement::Free => Command::new(program),
    }
}
