//! Access for others: users, groups and programs, as the kernel tells of them. Only root can play them all.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::stage::{GREETING, Outcome, Stage, Started, eventually, freeze, signal};
use crate::users::{ANNA, ANYONE, BERT, ROOT, Server, Town, abstract_name};
use crate::util::{PATIENCE, watchdog};

/// A group that nobody is in unless it is said.
const CREW: u32 = 12350;
const CREW_TEXT: &str = "12350";

impl Town {
    /// The tool, run by this user, who is in the crew.
    fn crew(&self, user: u32, args: &[&str]) -> Command {
        let mut command = Command::new("setpriv");
        command.arg(format!("--reuid={user}")).arg(format!("--regid={user}")).arg(format!("--groups={CREW}"));
        command.arg("--").arg(&self.tool).args(args).env_remove("RUST_LOG").env_remove("XDG_RUNTIME_DIR");
        command
    }

    fn crew_calls(&self, user: u32, server: &Server) -> Outcome {
        let endpoint = server.process.endpoints[0].to_string();
        let args = ["call", &endpoint, "1", "--timeout", "9", "--access", "anyone"];
        Started::new(&mut self.crew(user, &args), b"").finish()
    }

    /// Another copy of the tool.
    fn copy(&self, name: &str) -> Town {
        let tool = self.stage.path(name);
        fs::copy(&self.tool, &tool).expect("a copy");
        fs::set_permissions(&tool, Permissions::from_mode(0o755)).expect("chmod");
        Town { stage: Stage::new(), tool }
    }

    fn path(&self, name: &str) -> String {
        format!("unix:{}", self.stage.path(name).display())
    }
}

/// What the log says, once it says it.
fn logs(server: &Server, words: &[&str]) {
    let has_all = || server.log().lines().any(|line| words.iter().all(|word| line.contains(word)));
    eventually(PATIENCE, &words.join(", "), has_all);
}

fn mode_and_group(town: &Town, name: &str) -> (u32, u32) {
    let found = fs::symlink_metadata(town.stage.path(name)).expect("the socket's file");
    (found.mode() & 0o777, found.gid())
}

#[test]
fn users_who_are_named_are_let_in_and_no_others() {
    const CARL: u32 = 12347;
    let _watchdog = watchdog(60);
    let Some(town) = Town::new() else { return };
    for endpoint in [abstract_name(), town.path("anna/x.sock")] {
        let server = town.serve(ANNA, &endpoint, &["--allow-user", &BERT.to_string()]);
        town.works(BERT, &server, ANYONE);
        town.works(ANNA, &server, &[]);
        town.works(ROOT, &server, ANYONE);
        town.refused_by_server(CARL, &server, ANYONE);
        let rule =
            format!("by access for the same user or uid {BERT}: it belongs to uid {CARL}, who is not named");
        logs(&server, &["WARN", &rule, "access for anyone would allow it, or for users with uid 12347"]);
        // Bert's own client does not take it for his server.
        town.call(BERT, &server, &[]).0.expect(3).mentions("another user");
    }
}

/// A group that the server is in gets the socket; else the check behind it is all that keeps others out.
#[test]
fn members_of_a_group_are_let_in_and_no_others() {
    let _watchdog = watchdog(60);
    let Some(town) = Town::new() else { return };
    let options = ["--allow-group", CREW_TEXT];
    for endpoint in [abstract_name(), town.path("anna/x.sock")] {
        let server = town.serve(ANNA, &endpoint, &options);
        town.crew_calls(BERT, &server).expect(0).prints(GREETING);
        town.works(ANNA, &server, &[]);
        town.refused_by_server(BERT, &server, ANYONE);
        logs(&server, &["or gid 12350: it belongs to uid 12346, who is not named"]);
    }
    let outside = town.serve(ANNA, &town.path("anna/outside.sock"), &options);
    assert_eq!(mode_and_group(&town, "anna/outside.sock"), (0o666, ANNA));
    drop(outside);
    let inside =
        town.serve_as(town.crew(ANNA, &[&["serve", &town.path("anna/inside.sock")], &options[..]].concat()));
    assert_eq!(mode_and_group(&town, "anna/inside.sock"), (0o660, CREW));
    town.crew_calls(BERT, &inside).expect(0).prints(GREETING);
    town.works(ANNA, &inside, &[]);
    town.refused_by_kernel(BERT, &inside, ANYONE);
}

#[test]
fn one_program_is_let_in_and_another_is_not() {
    let _watchdog = watchdog(60);
    let Some(town) = Town::new() else { return };
    let (tool, copy) = (town.tool.display().to_string(), town.copy("copy"));
    for endpoint in [abstract_name(), town.path("anna/x.sock")] {
        let server = town.serve(ANNA, &endpoint, &["--allow-program", &tool]);
        town.works(ANNA, &server, &[]);
        town.works(ANNA, &server, &["--program", &tool]);
        copy.refused_by_server(ANNA, &server, &[]);
        let rule = format!(
            "by access for the same user that runs {tool:?}: it runs another program ({:?})",
            copy.tool
        );
        logs(&server, &["WARN", &rule, "access for the program"]);
        // What Anna may not see she does not let in, be it root's.
        town.refused_by_server(ROOT, &server, ANYONE);
        logs(&server, &["does not let us see which program"]);
        // At a path the kernel has kept him out already.
        if endpoint.starts_with("abstract:") {
            town.refused_by_server(BERT, &server, ANYONE);
            logs(&server, &["belongs to another user"]);
        }
        let (refused, _) = town.call(ANNA, &server, &["--program", &copy.tool.display().to_string()]);
        refused
            .expect(3)
            .prints("")
            .mentions("runs another program")
            .mentions("we do not talk to that server");
    }
    // Root sees all.
    let options = ["--allow-user", &ANNA.to_string(), "--allow-program", &tool];
    let server = town.serve(ROOT, &abstract_name(), &options);
    town.works(ANNA, &server, &[]);
    copy.refused_by_server(ANNA, &server, &[]);
}

/// An update puts another file in the program's place: both may.
#[test]
fn an_updated_program_is_let_in() {
    let _watchdog = watchdog(60);
    let Some(town) = Town::new() else { return };
    let (wanted, older) = (town.copy("wanted"), town.stage.path("older"));
    let server = town.serve(ANNA, &abstract_name(), &["--allow-program", &wanted.tool.display().to_string()]);
    wanted.works(ANNA, &server, &[]);
    fs::rename(&wanted.tool, &older).expect("rename");
    let newer = town.copy("newer");
    fs::rename(&newer.tool, &wanted.tool).expect("rename");
    wanted.works(ANNA, &server, &[]);
    Town { stage: Stage::new(), tool: older }.works(ANNA, &server, &[]);
}

/// It connects, leaves the connection to a child, and is gone when the server looks.
const HEIR: &str = r#"
import os, socket, struct, sys
s = socket.socket(socket.AF_UNIX)
s.connect("\0" + sys.argv[1])
if os.fork():
    os._exit(0)
s.sendall(struct.pack("=iii", 1, 0, 0))
sys.stdout.buffer.write(s.recv(12))
"#;

/// Who has the connection now need not be who has opened it: what can't be looked at any more is refused.
#[test]
fn a_connection_that_another_has_inherited_is_refused() {
    let _watchdog = watchdog(60);
    let Some(town) = Town::new() else { return };
    let endpoint = abstract_name();
    let python = fs::canonicalize("/usr/bin/python3").expect("python3").display().to_string();
    let server = town.serve(ROOT, &endpoint, &["--allow-program", &python]);
    let name = endpoint.strip_prefix("abstract:").expect("a name").to_owned();
    freeze(server.process.child.id());
    let mut heir = Command::new(&python);
    heir.args(["-I", "-S", "-c", HEIR, &name]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut heir = heir.spawn().expect("python3");
    heir.wait().expect("it has left");
    signal("CONT", server.process.child.id());
    let mut answer = Vec::new();
    std::io::Read::read_to_end(&mut heir.stdout.take().expect("a pipe"), &mut answer).expect("read");
    assert_eq!(answer.get(4..8), Some(&(-5i32).to_ne_bytes()[..]), "{answer:?}");
    logs(&server, &["its process has ended"]);
}

#[test]
fn what_can_t_be_kept_is_said_at_once() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    for (args, words) in [
        (&["unix:/x", "--allow-program", "/no/such/program"][..], "/no/such/program"),
        (&["unix:/x", "--allow-program", "sidewire"], "absolute"),
        (&["unix:/x", "--allow-user", "anna"], "expected a number"),
        (&["unix:/x", "--allow-user", "65534"], "no certain user"),
        (&["tcp:127.0.0.1:0", "--access", "anyone", "--allow-program", "/bin/sh"], "nobody vouches"),
        (&["unixgram:/x", "--allow-group", "7"], "of datagrams nobody tells"),
    ] {
        stage.run([&["serve"], args].concat()).expect(2).prints("").mentions(words);
    }
}

/// It attaches descriptors to what it sends, request or not, and waits to be told to leave.
const GIVER: &str = r#"
import array, os, socket, struct, sys
for round in range(8):
    s = socket.socket(socket.AF_UNIX)
    s.connect("\0" + sys.argv[1])
    files = array.array("i", [os.open("/dev/null", os.O_RDONLY) for _ in range(4)])
    request = struct.pack("=iii", 1, 0, 0)
    try:
        for bytes in (request[:5], request[5:] + request):
            try:
                s.sendmsg([bytes], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
            except PermissionError:
                s.sendall(bytes)
        s.recv(12)
    except (BrokenPipeError, ConnectionResetError):
        pass # it was told to go
    globals()["keep%d" % round] = s
print("sent", flush=True)
sys.stdin.read()
"#;

fn descriptors(pid: u32) -> usize {
    fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd")).expect("/proc").count()
}

/// Nobody who is a stranger, let in or not, leaves a descriptor with the server. On kernels that let them through,
/// what is read without room for them goes at once.
#[test]
fn no_descriptor_of_a_stranger_is_kept() {
    let _watchdog = watchdog(60);
    let Some(town) = Town::new() else { return };
    for access in [ANYONE, &[]] {
        let endpoint = abstract_name();
        let server = town.serve(ANNA, &endpoint, access);
        let before = descriptors(server.process.child.id());
        let name = endpoint.strip_prefix("abstract:").expect("a name");
        let mut giver = Command::new("setpriv");
        giver.args([&format!("--reuid={BERT}"), &format!("--regid={BERT}"), "--clear-groups", "--"]);
        giver
            .args(["/usr/bin/python3", "-I", "-S", "-c", GIVER, name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut giver = giver.spawn().expect("python3");
        let mut said = [0; 5];
        std::io::Read::read_exact(giver.stdout.as_mut().expect("a pipe"), &mut said).expect("it has sent");
        // At most the connections themselves.
        let after = descriptors(server.process.child.id());
        assert!(after <= before + 8, "{before} before, {after} after");
        drop(giver.stdin.take());
        giver.wait().expect("it has left");
        eventually(PATIENCE, "all of them are closed", || descriptors(server.process.child.id()) <= before);
    }
}
