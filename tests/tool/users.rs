//! Other users of the machine. Only root can play them all.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::Command;

use crate::stage::{GREETING, Outcome, SIDEWIRE, Stage, Started, eventually, signal};
use crate::util::{PATIENCE, Process, unique, watchdog};

pub(crate) const ANNA: u32 = 12345;
pub(crate) const BERT: u32 = 12346;
pub(crate) const ROOT: u32 = 0;
pub(crate) const ANYONE: &[&str] = &["--access", "anyone"];

/// A place that all users can look into, with the tool in it, and a folder of Anna's.
pub(crate) struct Town {
    pub(crate) stage: Stage,
    pub(crate) tool: PathBuf,
}

impl Town {
    /// `None`, and a line that says so, unless we are root.
    pub(crate) fn new() -> Option<Town> {
        if sidewire_platform::current_user().expect("who we are") != sidewire_platform::User::Uid(ROOT) {
            println!("not root: nobody else's processes can be started, and this test does nothing");
            return None;
        }
        let stage = Stage::new();
        fs::set_permissions(stage.folder(), Permissions::from_mode(0o755)).expect("chmod");
        let tool = stage.path("sidewire");
        fs::copy(SIDEWIRE, &tool).expect("copy the tool");
        fs::set_permissions(&tool, Permissions::from_mode(0o755)).expect("chmod");
        fs::create_dir(stage.path("anna")).expect("a folder");
        chown(stage.path("anna"), Some(ANNA), Some(ANNA)).expect("chown");
        Some(Town { stage, tool })
    }

    /// The tool, run by this user.
    fn command(&self, user: u32, args: &[&str]) -> Command {
        let mut command = Command::new("setpriv");
        command.arg(format!("--reuid={user}")).arg(format!("--regid={user}")).arg("--clear-groups");
        command.arg("--").arg(&self.tool).args(args).env_remove("RUST_LOG").env_remove("XDG_RUNTIME_DIR");
        command
    }

    pub(crate) fn serve(&self, user: u32, endpoint: &str, access: &[&str]) -> Server {
        self.serve_as(self.command(user, &[&["serve", endpoint], access].concat()))
    }

    /// The same by this command.
    pub(crate) fn serve_as(&self, mut command: Command) -> Server {
        let log = self.stage.path(&unique("log"));
        let process = Process::start(command.stderr(File::create(&log).expect("a file")), 1);
        Server { process, log }
    }

    /// A client of root's in this process that is to connect anew.
    fn lasting(endpoint: &str) -> sidewire::Client {
        let connect = sidewire::Connect::to(endpoint).expect("an endpoint");
        connect.reconnect(sidewire::Reconnect::new()).open().expect("connect")
    }

    pub(crate) fn call(&self, user: u32, server: &Server, options: &[&str]) -> (Outcome, u32) {
        let endpoint = server.process.endpoints[0].to_string();
        let mut command =
            self.command(user, &[&["call", &endpoint, "1", "--timeout", "9"], options].concat());
        let call = Started::new(&mut command, b"");
        let pid = call.id();
        (call.finish(), pid)
    }

    /// It works, and nobody complains.
    pub(crate) fn works(&self, user: u32, server: &Server, options: &[&str]) {
        let (outcome, _) = self.call(user, server, options);
        assert_eq!(outcome.expect(0).prints(GREETING).stderr, "");
        assert_eq!(server.log(), "");
    }

    /// The kernel refuses the caller; the server does not hear of it.
    pub(crate) fn refused_by_kernel(&self, user: u32, server: &Server, options: &[&str]) {
        let (outcome, _) = self.call(user, server, options);
        // Whose it is that keeps us out, and who we are.
        let outcome = outcome.expect(3).prints("").mentions("refused").mentions("ermission denied");
        outcome.mentions("belongs to uid").mentions(&format!("this is uid {user}"));
        assert_eq!(server.log(), "");
    }

    /// The caller finds that it is not its server, and says nothing to it.
    fn refused_by_client(&self, user: u32, server: &Server, owner: u32) {
        for layout in [&[][..], &["--classic"]] {
            let (outcome, _) = self.call(user, server, layout);
            let outcome = outcome.expect(3).prints("").mentions("another user");
            outcome.mentions(&format!("uid {owner})")).mentions(&format!("this is uid {user}"));
        }
    }

    /// The server refuses a caller that would have talked to it, and both say so.
    pub(crate) fn refused_by_server(&self, user: u32, server: &Server, options: &[&str]) {
        for layout in [&[][..], &["--classic"]] {
            let (outcome, pid) = self.call(user, server, &[options, layout].concat());
            outcome.expect(3).prints("").mentions("not permitted (-5)");
            // The caller may have heard of it before it was written.
            let name = format!("pid {pid}");
            eventually(PATIENCE, &name, || server.log().lines().any(|line| line.contains(&name)));
            let log = server.log();
            let line = log.lines().find(|line| line.contains(&name)).expect("it is there");
            assert!(line.contains("WARN") && line.contains(&format!("uid {user}")), "{line}");
            assert!(line.contains(&server.process.endpoints[0].to_string()), "{line}");
        }
    }
}

pub(crate) struct Server {
    pub(crate) process: Process,
    log: PathBuf,
}

impl Server {
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("the log")
    }
}

pub(crate) fn abstract_name() -> String {
    format!("abstract:{}", unique("users"))
}

/// PROTOCOL A10, B1
#[test]
fn over_an_abstract_name_policy_refuses_on_both_sides() {
    let _watchdog = watchdog(60);
    let Some(town) = Town::new() else { return };
    let server = town.serve(ANNA, &abstract_name(), &[]);
    town.works(ANNA, &server, &[]);
    town.refused_by_client(BERT, &server, ANNA);
    town.refused_by_server(BERT, &server, ANYONE);
    stays_well(&town, ANNA, &server);
}

/// A refused caller costs the others nothing.
fn stays_well(town: &Town, user: u32, server: &Server) {
    town.call(user, server, &[]).0.expect(0).prints(GREETING);
}

/// A classic request from a socket that has a name like a list of facts; prints the reply's rc.
const LIAR: &str = r#"
import socket, struct, sys
s = socket.socket(socket.AF_UNIX)
s.bind("\0" + sys.argv[2])
s.settimeout(60)
s.connect("\0" + sys.argv[1])
s.sendall(struct.pack("=iii", 1, 0, 0))
print(struct.unpack("=iii", s.recv(12, socket.MSG_WAITALL))[1])
"#;

/// Who somebody is, the kernel says, in numbers; the peer's address is a text of the peer's.
#[test]
fn what_a_peers_address_says_is_not_who_it_is() {
    let _watchdog = watchdog(60);
    let Some(town) = Town::new() else { return };
    let endpoint = abstract_name();
    let server = town.serve(ANNA, &endpoint, &[]);
    for claim in [";uid=0;pid=1;", &format!("\nuid={ANNA}\nuid {ANNA}")] {
        let name = endpoint.split_once(':').expect("a scheme").1;
        let mut command = Command::new("setpriv");
        command.args([&format!("--reuid={BERT}"), &format!("--regid={BERT}"), "--clear-groups", "--"]);
        command.args(["/usr/bin/python3", "-c", LIAR, name, &(unique("liar") + claim)]);
        Started::new(&mut command, b"").finish().expect(0).prints("-5\n");
    }
    eventually(PATIENCE, "both are named", || server.log().matches(&format!("uid {BERT}")).count() >= 1);
    stays_well(&town, ANNA, &server);
}

#[test]
fn over_a_path_the_kernel_refuses_first() {
    let _watchdog = watchdog(60);
    let Some(town) = Town::new() else { return };
    let path = town.stage.path("anna/x.sock");
    let server = town.serve(ANNA, &format!("unix:{}", path.display()), &[]);
    town.works(ANNA, &server, &[]);
    town.refused_by_kernel(BERT, &server, &[]);
    town.refused_by_kernel(BERT, &server, ANYONE);
    // Someone opens the file to all: policy holds without its mode.
    fs::set_permissions(&path, Permissions::from_mode(0o666)).expect("chmod");
    town.refused_by_client(BERT, &server, ANNA);
    town.refused_by_server(BERT, &server, ANYONE);
    stays_well(&town, ANNA, &server);
}

#[test]
fn with_access_for_anyone_on_both_sides_it_works() {
    let _watchdog = watchdog(60);
    let Some(town) = Town::new() else { return };
    let path = format!("unix:{}", town.stage.path("anna/x.sock").display());
    for endpoint in [abstract_name(), path] {
        let server = town.serve(ANNA, &endpoint, ANYONE);
        town.works(BERT, &server, ANYONE);
        town.works(ROOT, &server, ANYONE);
        town.works(ANNA, &server, &[]);
        // What the server allows does not make it the caller's own.
        town.refused_by_client(BERT, &server, ANNA);
    }
}

/// Root is let in everywhere, yet does not take just anybody's server for its own.
#[test]
fn root_may_call_everybody() {
    let _watchdog = watchdog(60);
    let Some(town) = Town::new() else { return };
    let path = format!("unix:{}", town.stage.path("anna/x.sock").display());
    for endpoint in [abstract_name(), path] {
        let server = town.serve(ANNA, &endpoint, &[]);
        town.works(ROOT, &server, ANYONE);
        town.refused_by_client(ROOT, &server, ANNA);
        assert_eq!(server.log(), "");
    }
}

/// Root's server is trusted by all, and lets in whom its policy names.
#[test]
fn roots_server_is_called_where_its_policy_admits() {
    let _watchdog = watchdog(60);
    let Some(town) = Town::new() else { return };
    let closed = town.serve(ROOT, &abstract_name(), &[]);
    town.refused_by_server(ANNA, &closed, &[]);
    town.refused_by_server(ANNA, &closed, ANYONE);
    stays_well(&town, ROOT, &closed);
    let path = |name: &str| format!("unix:{}", town.stage.path(name).display());
    town.refused_by_kernel(ANNA, &town.serve(ROOT, &path("closed.sock"), &[]), &[]);
    for endpoint in [abstract_name(), path("open.sock")] {
        let open = town.serve(ROOT, &endpoint, ANYONE);
        town.works(ANNA, &open, &[]);
        town.works(BERT, &open, &[]);
    }
}

/// In a user namespace all strangers read as this one number: it is nobody, not even itself.
#[test]
fn the_overflow_uid_is_nobody() {
    const NOBODY: u32 = 65534;
    let _watchdog = watchdog(60);
    let Some(town) = Town::new() else { return };
    let server = town.serve(NOBODY, &abstract_name(), &[]);
    let (outcome, _) = town.call(NOBODY, &server, &[]);
    outcome.expect(3).prints("").mentions("does not say whose process it is");
    let (outcome, pid) = town.call(NOBODY, &server, ANYONE);
    outcome.expect(3).prints("").mentions("not permitted (-5)");
    let name = format!("pid {pid}");
    eventually(PATIENCE, &name, || server.log().contains(&name));
}

/// Neither what policy keeps out, nor what has let everyone in; and what root may do, its tool does not.
#[test]
fn nobody_stops_the_server_of_another_user() {
    let _watchdog = watchdog(60);
    let Some(town) = Town::new() else { return };
    for access in [&[][..], ANYONE] {
        let mut annas = town.serve(ANNA, &abstract_name(), access);
        let endpoint = annas.process.endpoints[0].to_string();
        for user in [BERT, ROOT] {
            let text =
                Started::new(&mut town.command(user, &["stop", &endpoint]), b"").finish().expect(1).text();
            assert!(text.starts_with(&format!("{endpoint}: not stopped: ")), "{text}");
            assert!(text.contains(&format!("belongs to another user (uid {ANNA})")), "{text}");
        }
        assert!(annas.process.child.try_wait().expect("look").is_none());
        stays_well(&town, ANNA, &annas);
    }
    // Root's server is trusted by all, and stopped by nobody else.
    let mut roots = town.serve(ROOT, &abstract_name(), ANYONE);
    let endpoint = roots.process.endpoints[0].to_string();
    let text = Started::new(&mut town.command(ANNA, &["stop", &endpoint]), b"").finish().expect(1).text();
    let pid = roots.process.child.id();
    assert!(
        text.contains(&format!("its process, pid {pid}, belongs to uid 0, and this is uid {ANNA}")),
        "{text}"
    );
    assert!(roots.process.child.try_wait().expect("look").is_none());
    // Who asked may have heard of it before it was written.
    eventually(PATIENCE, "it is logged", || roots.log().contains("may not ask the server to stop"));
    // Its own user ends it.
    let own =
        Started::new(&mut town.command(ROOT, &["stop", &endpoint, "--wait", "50"]), b"").finish().expect(0);
    assert_eq!(own.text(), format!("{endpoint}: stopped (pid {pid}, asked)\n"));
}

/// Where somebody else's server has taken the place of the one before, nothing is sent to it, nor is it tried again.
#[test]
fn a_client_does_not_connect_anew_to_a_stranger() {
    let _watchdog = watchdog(60);
    let Some(town) = Town::new() else { return };
    let endpoint = town.stage.unix("anna/server.sock");
    let mut server = town.serve(ROOT, &endpoint, &[]);
    let client = Town::lasting(&endpoint);
    client.call(1, "").expect("a reply");
    signal("TERM", server.process.child.id());
    server.process.wait(PATIENCE);
    let _annas = town.serve(ANNA, &endpoint, &[]);
    let error = client.request(1).idempotent().send("").expect_err("Anna's");
    assert_eq!(error.refused_by(), Some(sidewire::RefusedBy::OurAccess), "{error}");
    assert!(client.is_closed() && error.to_string().contains("it belongs to another user"), "{error}");
}

/// Whose connections a server has, by the kernel's word.
#[test]
fn the_statistics_say_which_user_is_connected() {
    let _watchdog = watchdog(60);
    let Some(town) = Town::new() else { return };
    let server = town.serve(ANNA, &abstract_name(), ANYONE);
    let endpoint = server.process.endpoints[0].to_string();
    let connections_of = |user: u32| {
        let stats = Started::new(&mut town.command(ANNA, &["stats", &endpoint, "--json"]), b"");
        let stats: serde_json::Value = serde_json::from_str(&stats.finish().expect(0).text()).expect("JSON");
        let users = stats["users"].as_array().expect("rows").clone();
        let row = users.iter().find(|row| row["who"] == format!("uid {user}"));
        row.map_or(0, |row| row["connections"].as_u64().expect("a number"))
    };
    assert_eq!((connections_of(BERT), connections_of(ANNA) > 0), (0, true));
    let watch = ["watch", &endpoint, "1", "--access", "anyone"];
    let watching = [(); 2].map(|()| Started::new(&mut town.command(BERT, &watch), b""));
    eventually(PATIENCE, "both are there", || connections_of(BERT) == 2);
    drop(watching);
    eventually(PATIENCE, "both have gone", || connections_of(BERT) == 0);
}
