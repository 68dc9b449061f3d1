//! The programs that are started: this test binary once more, with one test only, which does what it is told.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, exit, id};
use std::time::Duration;

use sidewire::{App, Client, Connect, Endpoint, Error, Server, Start};

use crate::util::{all_streams, unique, usual, usual_access};

/// What to be.
const ROLE: &str = "SIDEWIRE_TEST_ROLE";
const ENDPOINT: &str = "SIDEWIRE_TEST_ENDPOINT";
const FOLDER: &str = "SIDEWIRE_TEST_FOLDER";

/// Answers with the number of the server's process.
pub(crate) const PID: u16 = 1;

/// An endpoint whose server is started on demand, and a folder in which its servers leave traces.
pub(crate) struct Place {
    pub(crate) endpoint: Endpoint,
    folder: PathBuf,
    is_shared: bool,
}

impl Place {
    /// A fresh one.
    pub(crate) fn at(endpoint: Endpoint) -> Place {
        let folder = std::env::temp_dir().join(unique("starting"));
        fs::create_dir(&folder).expect("a folder");
        Place { endpoint, folder, is_shared: false }
    }

    /// That of whoever has started this process.
    pub(crate) fn of_this_process() -> Option<(String, Place)> {
        let role = std::env::var(ROLE).ok()?;
        let endpoint = std::env::var(ENDPOINT).expect("an endpoint").parse().expect("an endpoint");
        let folder = std::env::var_os(FOLDER).expect("a folder").into();
        Some((role, Place { endpoint, folder, is_shared: true }))
    }

    /// A program that plays this role here.
    pub(crate) fn program(&self, role: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().expect("the test binary"));
        command.args(["--exact", "program::plays_its_role", "--nocapture", "--test-threads=1"]);
        command.env(ROLE, role).env(ENDPOINT, self.endpoint.to_string()).env(FOLDER, &self.folder);
        command
    }

    /// Connects to a server that leaves when nobody was connected for so long, and starts it if nobody listens.
    pub(crate) fn connect(&self, idle: Duration) -> Connect {
        self.connect_with(&format!("serve {}", idle.as_millis()))
    }

    /// The same with another program.
    pub(crate) fn connect_with(&self, role: &str) -> Connect {
        self.connect_only().start(Start::new(self.program(role)).within(Duration::from_secs(60)))
    }

    /// Starts nothing.
    pub(crate) fn connect_only(&self) -> Connect {
        let connect = Connect::to(&self.endpoint).expect("an endpoint");
        connect.access(usual_access(&self.endpoint)).timeout(Duration::from_secs(30))
    }

    /// Who has played a role here, in the order in which they began.
    pub(crate) fn traces(&self) -> Vec<(String, u32)> {
        let text = fs::read_to_string(self.folder.join("traces")).unwrap_or_default();
        let trace = |line: &str| {
            let (role, pid) = line.rsplit_once(' ')?;
            Some((role.to_owned(), pid.parse().ok()?))
        };
        text.lines().filter_map(trace).collect()
    }

    /// How many servers there were.
    pub(crate) fn servers(&self) -> usize {
        self.traces().iter().filter(|(role, _)| role.starts_with("serve")).count()
    }

    /// Whether two servers met.
    pub(crate) fn had_two(&self) -> bool {
        self.folder.join("two").exists()
    }

    /// Removes what a server that was killed has left there.
    #[cfg(unix)]
    pub(crate) fn clear(&self) {
        if let Endpoint::Unix(path) = &self.endpoint {
            let _ = fs::remove_file(path);
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    fn leave_trace(&self, role: &str) {
        let traces = OpenOptions::new().append(true).create(true).open(self.folder.join("traces"));
        let written = traces.and_then(|mut file| file.write_all(format!("{role} {}\n", id()).as_bytes()));
        written.expect("a trace");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.is_shared {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// One place for each kind of stream; its endpoint can be told to a server beforehand.
pub(crate) fn everywhere() -> impl Iterator<Item = Place> {
    all_streams().into_iter().map(|endpoint| match endpoint.scheme() {
        // The port of one that has just gone.
        "tcp" => {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
            let port = listener.local_addr().expect("its address").port();
            Place::at(format!("tcp:127.0.0.1:{port}").parse().expect("an endpoint"))
        }
        _ => Place::at(endpoint),
    })
}

/// The server's process, by its own word.
pub(crate) fn pid_of(client: &Client) -> Result<u32, Error> {
    let answer = client.call(PID, "")?;
    Ok(String::from_utf8_lossy(answer.payload()).parse().expect("a number"))
}

/// Ends a process that is nobody's child.
pub(crate) fn kill(pid: u32) {
    let mut command = match cfg!(windows) {
        true => std::process::Command::new("taskkill"),
        false => std::process::Command::new("kill"),
    };
    let pid = pid.to_string();
    match cfg!(windows) {
        true => command.args(["/f", "/pid", &pid]),
        false => command.args(["-9", &pid]),
    };
    let killed = command.output().expect("a program that kills");
    assert!(killed.status.success(), "{killed:?}");
}

#[test]
fn plays_its_role() {
    let Some((role, place)) = Place::of_this_process() else { return };
    place.leave_trace(&role);
    match role.split_once(' ').unwrap_or((&role, "")) {
        ("exits", status) => exit(status.parse().expect("a status")),
        ("dies", elsewhere) => die_in_a_handler(elsewhere),
        ("sleeps", _) => std::thread::sleep(Duration::from_secs(600)),
        ("serve", idle) => serve(&place, Duration::from_millis(idle.parse().expect("milliseconds"))),
        ("start", other) => {
            let connect = place.connect_with(other);
            exit(connect.open().and_then(|client| pid_of(&client)).map_or(1, |_| 0));
        }
        #[cfg(unix)]
        ("contend", _) => crate::contest::contend(&place),
        ("give-way", version) => crate::takeover::serve(&place, version),
        ("crowd", how) => {
            if let Err(error) = crate::crowd::crowd(&place, how) {
                eprintln!("{error}");
                exit(1);
            }
        }
        _ => panic!("no such role: {role}"),
    }
    exit(0);
}

/// Serves elsewhere, and ends in the handler of a call of its own.
fn die_in_a_handler(elsewhere: &str) {
    let mut server = Server::new(());
    server.on(7, |(), _, _| exit(9));
    let bound = server.listen(elsewhere).expect("listen");
    std::thread::spawn(move || Client::connect(bound).and_then(|client| client.call(7, "")));
    server.run().expect("a server");
}

/// A server that no other may meet, as one that has a database open.
fn serve(place: &Place, idle: Duration) {
    // In the state, which is the last that goes.
    let alone = File::create(place.folder.join("alone")).expect("a file");
    let mut server = Server::builder(alone).app(App::new("starting", "1.2.3")).build().expect("a server");
    server.exit_when_idle(idle).expect("a loop");
    server.on(PID, |_alone, _request, reply| {
        reply.write(id().to_string());
        Ok(())
    });
    match server.listen(usual(&place.endpoint)) {
        Ok(_) => {}
        Err(error) if error.is_in_use() => exit(3),
        Err(error) => panic!("{error}"),
    }
    if server.state().try_lock().is_err() {
        File::create(place.folder.join("two")).expect("a file");
        exit(4);
    }
    server.run().expect("a server that ends well");
    place.leave_trace("left");
}
