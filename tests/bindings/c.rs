//! The library for C, its header, and C programs over it, built as its users build them. AddressSanitizer watches what
//! the programs do, and the library's own use of memory as far as its allocations and C's functions show it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use crate::util::{PATIENCE, Process, watchdog};

/// How long building the library may take, and a program over it; and how long one may run.
const BUILD: u64 = 900;
const LIMIT: &str = "120";

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Builds the library where this test was built, unless that was done before (cargo knows, and lets one after the other
/// look), and tells where its files are.
pub(crate) fn library() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(build_library)
}

fn build_library() -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_sidewire")).parent().expect("the profile's folder");
    let target = folder.parent().expect("the target's folder");
    let mut command = Command::new("timeout");
    command.args([&BUILD.to_string(), env!("CARGO"), "build", "--quiet", "-p", "sidewire-c", "--target-dir"]);
    succeed(command.arg(target).current_dir(root()));
    target.join("debug")
}

/// Runs it to its end, which has to be a good one.
pub(crate) fn succeed(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(output.status.success(), "{command:?}: {}\n{stdout}\n{stderr}", output.status);
    output
}

/// The same of a program that may hang.
fn run<A: AsRef<OsStr>>(program: &Path, args: impl IntoIterator<Item = A>) -> String {
    let output = succeed(Command::new("timeout").arg(LIMIT).arg(program).args(args));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Builds a C program over the static library, with all warnings and AddressSanitizer.
pub(crate) fn build(folder: &Path, source: &str) -> PathBuf {
    let program = folder.join(Path::new(source).file_stem().expect("a name"));
    let mut command = Command::new("gcc");
    command.args(["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-D_POSIX_C_SOURCE=200809L", "-g"]);
    command.args(["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-I"]);
    command.arg(root().join("bindings/c/include")).arg("-o").arg(&program).arg(root().join(source));
    succeed(command.arg(library().join("libsidewire_c.a")).args(["-lpthread", "-ldl", "-lm"]));
    program
}

#[test]
fn the_examples_talk() {
    let _watchdog = watchdog(BUILD);
    let folder = tempfile::tempdir().expect("a folder");
    let [client, server] =
        ["client", "server"].map(|name| build(folder.path(), &format!("bindings/c/examples/{name}.c")));
    let endpoint = format!("unix:{}", folder.path().join("counter.sock").display());
    let mut running = Process::start(Command::new(server).arg(&endpoint), 1);
    assert_eq!(run(&client, [&endpoint]), "rc 0: 42\nchanged: 40\nchanged: 42\n");
    assert_eq!(run(&client, [&endpoint]), "rc 0: 84\nchanged: 82\nchanged: 84\n");
    succeed(Command::new("kill").arg(running.child.id().to_string()));
    assert!(running.wait(PATIENCE).success(), "it ends in order, and nothing was lost or leaked");
}

#[test]
fn the_readme_has_the_examples() {
    let read = |path| fs::read_to_string(root().join("bindings/c").join(path)).expect("a text");
    let readme = read("README.md");
    for example in ["examples/client.c", "examples/server.c"] {
        assert!(
            readme.contains(&format!("```c\n{}```\n", read(example))),
            "{example} is not what README.md shows"
        );
    }
}

/// Each check is in the program: what is wrong is said, and nothing else happens.
#[test]
fn misuse_is_told() {
    let _watchdog = watchdog(BUILD);
    let folder = tempfile::tempdir().expect("a folder");
    let program = build(folder.path(), "tests/bindings/c/misuse.c");
    let endpoint = format!("unix:{}", folder.path().join("misuse.sock").display());
    assert_eq!(run(&program, [endpoint]), "");
}

/// The same of what is freed, or fails, while something still stands on it.
#[test]
fn nothing_is_used_behind_its_end() {
    let _watchdog = watchdog(BUILD);
    let folder = tempfile::tempdir().expect("a folder");
    let program = build(folder.path(), "tests/bindings/c/ends.c");
    let endpoint = format!("unix:{}", folder.path().join("ends.sock").display());
    assert_eq!(run(&program, [endpoint]), "");
}

/// The same of options, each by what it changes.
#[test]
fn each_option_has_its_effect() {
    let _watchdog = watchdog(BUILD);
    let folder = tempfile::tempdir().expect("a folder");
    let program = build(folder.path(), "tests/bindings/c/options.c");
    assert_eq!(run(&program, ["options.sock", "key", "other"].map(|name| folder.path().join(name))), "");
}

/// In loops of the programs' own, on both sides, with no thread but theirs.
#[test]
fn both_sides_run_in_loops_of_the_programs_own() {
    let _watchdog = watchdog(BUILD);
    let folder = tempfile::tempdir().expect("a folder");
    let program = build(folder.path(), "tests/bindings/c/loop.c");
    let endpoint = format!("unix:{}", folder.path().join("loop.sock").display());
    let mut server = Process::start(Command::new(&program).args(["serve", &endpoint]), 1);
    assert_eq!(run(&program, ["call", &endpoint]), "");
    assert!(server.wait(PATIENCE).success(), "it was told to stop");
}

/// What goes with calls and replies besides bytes, and whose it is then.
#[test]
fn attachments_go_both_ways() {
    let _watchdog = watchdog(BUILD);
    let folder = tempfile::tempdir().expect("a folder");
    let program = build(folder.path(), "bindings/c/tests/handles.c");
    let endpoint = format!("unix:{}", folder.path().join("handles.sock").display());
    let server = Process::start(Command::new(&program).args(["serve", &endpoint]), 1);
    assert_eq!(run(&program, ["call", &endpoint]), "hello and back\n");
    drop(server);
    let program = build(folder.path(), "tests/bindings/c/attached.c");
    let endpoint = format!("unix:{}", folder.path().join("attached.sock").display());
    assert_eq!(run(&program, [endpoint]), "");
}

/// As `bindings/c/install` puts it down and pkg-config finds it, over the shared library.
#[test]
fn it_is_found_where_it_was_installed() {
    let _watchdog = watchdog(BUILD);
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("place with a blank");
    let folder_of_target = library().parent().expect("the target's folder").to_owned();
    let mut install = Command::new("timeout");
    install.arg(BUILD.to_string()).arg(root().join("bindings/c/install")).arg("--debug").arg(&place);
    succeed(install.env("CARGO_TARGET_DIR", folder_of_target));
    let mut build = Command::new("sh");
    build.arg("-euc").arg(
        "eval \"gcc -std=c99 -Wall -Wextra -Werror -o '$2' '$1' $(pkg-config --cflags --libs sidewire)\"",
    );
    build.arg("sh").arg(root().join("bindings/c/examples/client.c")).arg(folder.path().join("client"));
    succeed(build.env("PKG_CONFIG_PATH", place.join("lib/pkgconfig")));
    let mut client = Command::new(folder.path().join("client"));
    let output = client
        .arg("unix:/nowhere/at/all")
        .env("LD_LIBRARY_PATH", place.join("lib"))
        .output()
        .expect("it runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(1) && stderr.starts_with("connect: connect to unix:/nowhere"),
        "{stderr}"
    );
}

/// The header is made by cbindgen, which not everybody has; what it lacks or has too much is seen all the same.
#[test]
fn the_header_has_every_function_and_every_number() {
    let _watchdog = watchdog(60);
    let header = fs::read_to_string(root().join("bindings/c/include/sidewire.h")).expect("the header");
    let header: String = header.split("*/").filter_map(|text| text.split("/*").next()).collect();
    let mut declared: BTreeSet<_> = header
        .match_indices("sw_")
        .filter_map(|(at, _)| {
            let (name, parameters) = header[at..].split_once('(')?;
            let parameters = parameters.split_once(')')?.0;
            let count = if parameters == "void" { 0 } else { parameters.split(',').count() };
            is_name(name).then(|| format!("{name} of {count}"))
        })
        .collect();
    declared.extend(header.split("#define SW_").skip(1).map(|text| format!("SW_{}", first_word(text))));

    let mut exported = BTreeSet::new();
    for file in fs::read_dir(root().join("bindings/c/src")).expect("the sources") {
        let path = file.expect("a file").path();
        let source = fs::read_to_string(&path).expect("a source");
        let functions = source.split("#[unsafe(no_mangle)]\npub extern \"C\" fn ").skip(1);
        assert_eq!(source.matches("no_mangle").count(), functions.clone().count(), "{}", path.display());
        exported.extend(functions.map(|text| {
            let (name, parameters) = text.split_once('(').expect("parameters");
            let count = parameters.split_once(')').expect("their end").0.matches(':').count();
            format!("{name} of {count}")
        }));
        exported
            .extend(source.split("\npub const SW_").skip(1).map(|text| format!("SW_{}", first_word(text))));
    }
    assert!(exported.len() > 100, "{exported:?}");
    assert_eq!(declared, exported);
}

fn is_name(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn first_word(text: &str) -> &str {
    text.split([' ', ':', '\n']).next().unwrap_or_default()
}
