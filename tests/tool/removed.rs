//! Sockets whose files somebody removes while their server lives.

use std::fs::{self, File};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use crate::stage::{GREETING, Stage, eventually};
use crate::util::{Process, unique, watchdog};

const SECONDS: Duration = Duration::from_secs(60);

fn is_served(stage: &Stage, endpoint: &str) -> bool {
    stage.run(["call", endpoint, "1", "--timeout", "30"]).stdout == GREETING
}

#[test]
fn a_removed_socket_comes_back() {
    let _watchdog = watchdog(90);
    let stage = Stage::new();
    let local = unique("tool");
    let unixgram = format!("unixgram:{}", stage.path("gram").display());
    let endpoints = [stage.unix("stream"), unixgram, format!("local:{local}")];
    let log = stage.path("log");
    let mut command = stage.sidewire(["serve"]);
    let server =
        Process::start(command.args(&endpoints).stderr(File::create(&log).expect("a file")), endpoints.len());
    // Links are not touched.
    let clients: Vec<_> = server.endpoints.iter().map(|endpoint| stage.client(endpoint)).collect();
    for round in 1..=2 {
        for name in ["stream", "gram", &format!("{local}.sock")] {
            fs::remove_file(stage.path(name)).expect("the socket");
        }
        for endpoint in &endpoints {
            eventually(SECONDS, "it is bound again", || is_served(&stage, endpoint));
        }
        for client in &clients {
            assert_eq!(client.call(1, b"").expect("an old client's reply").payload(), GREETING);
        }
        for endpoint in &endpoints {
            // Clients may be served before the log is told.
            eventually(SECONDS, "the log says so once each time", || {
                let told = fs::read_to_string(&log).expect("the log");
                let line =
                    told.lines().filter(|line| line.contains(endpoint) && line.contains("was removed"));
                line.count() == round
            });
        }
    }
    drop((clients, server));
}

#[test]
fn the_place_of_another_is_left_alone_until_it_is_free() {
    let _watchdog = watchdog(90);
    let stage = Stage::new();
    let (endpoint, path, log) = (stage.unix("stream"), stage.path("stream"), stage.path("log"));
    let mut command = stage.sidewire(["serve", &endpoint]);
    let server = Process::start(command.stderr(File::create(&log).expect("a file")), 1);
    fs::remove_file(&path).expect("the socket");
    let other = UnixListener::bind(&path).expect("bind");
    let is_told = || fs::read_to_string(&log).expect("the log").contains("clients no longer find it");
    eventually(SECONDS, "the log says so", is_told);
    assert!(std::os::unix::net::UnixStream::connect(&path).is_ok(), "the other one's socket is there");
    drop(other);
    fs::remove_file(&path).expect("the other one's socket");
    eventually(SECONDS, "it is bound again", || is_served(&stage, &endpoint));
    let told = fs::read_to_string(&log).expect("the log");
    assert_eq!(told.matches("clients no longer find it").count(), 1, "{told}");
    drop(server);
}

/// With the folder that they are in, as cleaners do that remove what is empty: that is waited for.
#[test]
fn a_folder_that_comes_back_gets_its_sockets_back() {
    let _watchdog = watchdog(90);
    let stage = Stage::new();
    let (folder, log) = (stage.path("run"), stage.path("log"));
    fs::create_dir(&folder).expect("a folder");
    let endpoints = [stage.unix("run/stream"), format!("unixgram:{}", folder.join("gram").display())];
    let mut command = stage.sidewire(["serve"]);
    let server = Process::start(command.args(&endpoints).stderr(File::create(&log).expect("a file")), 2);
    let client = stage.client(&server.endpoints[0]);
    let told = |endpoint: &str, what: &str| {
        let told = fs::read_to_string(&log).expect("the log");
        told.lines().filter(|line| line.contains(endpoint) && line.contains(what)).count()
    };
    fs::remove_dir_all(&folder).expect("the folder");
    for endpoint in &endpoints {
        let is_told = || told(endpoint, "clients no longer find it") == 1;
        eventually(SECONDS, "the log says that clients no longer find it", is_told);
    }
    assert_eq!(client.call(1, b"").expect("who is there is served").payload(), GREETING);
    fs::create_dir(&folder).expect("the folder");
    for endpoint in &endpoints {
        eventually(SECONDS, "it is bound again", || is_served(&stage, endpoint));
        eventually(SECONDS, "the log says so", || told(endpoint, "was removed") == 1);
    }
    assert_eq!(client.call(1, b"").expect("an old client's reply").payload(), GREETING);
}
