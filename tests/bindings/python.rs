//! `bindings/python`: its own tests, with a real server, and that it can be installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::util::{Process, watchdog};

const SIDEWIRE: &str = env!("CARGO_BIN_EXE_sidewire");
/// Each is a test below.
const MODULES: [&str; 8] = [
    "test_aio",
    "test_client",
    "test_endpoint",
    "test_protocol",
    "test_readme",
    "test_reconnect",
    "test_session",
    "test_windows",
];

fn package() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("bindings/python")
}

/// Runs it to its end, which each of Python's tests has a watchdog for.
#[track_caller]
fn expect_success(command: &mut Command) -> String {
    let ran = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (said, errors) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{command:?}: {}\n{said}\n{errors}", ran.status);
    said.into_owned()
}

fn run(module: &str) {
    let _watchdog = watchdog(150);
    assert!(MODULES.contains(&module), "{module}");
    let mut python = Command::new("python3");
    python.args(["-B", "-W", "error::ResourceWarning", "-m", "unittest", module]);
    python.current_dir(package().join("tests")).env("SIDEWIRE", SIDEWIRE);
    expect_success(&mut python);
}

#[test]
fn tests_of_one_connection_in_memory_pass() {
    run("test_protocol");
}

#[test]
fn tests_of_a_client_in_memory_pass() {
    run("test_session");
}

#[test]
fn tests_of_endpoints_pass() {
    run("test_endpoint");
}

#[test]
fn tests_of_pipes_over_a_made_up_windows_pass() {
    run("test_windows");
}

#[test]
fn tests_of_the_client_that_blocks_pass() {
    run("test_client");
}

#[test]
fn tests_of_the_client_for_asyncio_pass() {
    run("test_aio");
}

#[test]
fn tests_of_reconnecting_pass() {
    run("test_reconnect");
}

#[test]
fn the_programs_of_its_readme_and_the_player_do_what_they_say() {
    run("test_readme");
}

#[test]
fn none_of_its_tests_is_left_out() {
    let files = fs::read_dir(package().join("tests")).expect("its tests");
    let names = files.map(|file| file.expect("a file").file_name().into_string().expect("UTF-8"));
    let mut tests: Vec<_> = names.filter(|name| name.starts_with("test_")).collect();
    tests.sort();
    assert_eq!(tests, MODULES.map(|module| format!("{module}.py")));
}

/// A Python that can install packages, if there is one.
fn installer() -> Option<&'static str> {
    let can = |python: &&str| {
        let asked = Command::new(python).args(["-c", "import pip, setuptools, wheel"]).output();
        asked.is_ok_and(|asked| asked.status.success())
    };
    ["python3", "/usr/bin/python3"].into_iter().find(can)
}

#[test]
fn pip_installs_it() {
    let _watchdog = watchdog(120);
    let Some(python) = installer() else {
        println!("skipped: pip_installs_it: no Python here has pip, setuptools and wheel");
        return;
    };
    let folder = TempDir::new().expect("a folder");
    let (source, target) = (folder.path().join("source"), folder.path().join("target"));
    copy(&package(), &source); // building leaves files beside what is built
    let options =
        ["-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--target"];
    let mut pip = Command::new(python);
    pip.args(options).arg(&target).arg(&source).env("PIP_NO_CACHE_DIR", "1");
    expect_success(&mut pip);
    assert!(target.join("sidewire/py.typed").exists(), "its types are for its users, too");

    let socket = folder.path().join("s.sock");
    let mut serve = Command::new(SIDEWIRE);
    let server = Process::start(serve.arg("serve").arg(format!("unix:{}", socket.display())), 1);
    let mut example = Command::new(python);
    example.arg(package().join("examples/store.py")).arg(server.endpoints[0].to_string());
    let said = expect_success(example.env("PYTHONPATH", &target).current_dir(folder.path()));
    assert!(said.contains("changed to tea\npart 1\n"), "{said}");
}

/// PROTOCOL Q1
#[cfg(feature = "describe")]
#[test]
fn a_server_is_used_by_what_it_says_of_itself() {
    let _watchdog = watchdog(60);
    let folder = TempDir::new().expect("a folder");
    let endpoint = format!("unix:{}", folder.path().join("notes.sock").display());
    let program = Path::new(SIDEWIRE).with_file_name("examples").join("describe");
    let server = Process::start(Command::new(program).args(["serve", &endpoint]), 1);
    let notes = |text: &str| {
        let mut python = Command::new("python3");
        python.arg("-B").arg(package().join("examples/notes.py")).arg(server.endpoints[0].to_string());
        python.arg(text).env("PYTHONPATH", package());
        python
    };
    let said = expect_success(&mut notes("buy tea"));
    assert_eq!(said, "org.example.notes has Add, Find and tells Added\nadded buy tea\nfound 1\n");
    let refused = notes("").output().expect("python3");
    let errors = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && errors.contains("refused: Empty"), "{errors}");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a folder");
    for entry in fs::read_dir(from).expect("the package") {
        let entry = entry.expect("an entry");
        let place = to.join(entry.file_name());
        if entry.file_type().expect("its type").is_dir() {
            copy(&entry.path(), &place);
        } else {
            fs::copy(entry.path(), place).expect("a copy");
        }
    }
}
