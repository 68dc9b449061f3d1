//! Open files that go from one process to another: the server opens what is in its folder for others, and looks into
//! what they have opened.
//!
//!     files serve FOLDER [ENDPOINT]
//!     files cat NAME [ENDPOINT]       (the server opens it, and this reads it)
//!     files lines FILE [ENDPOINT]     (this opens it, and the server reads it)

mod support;

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use sidewire::{Client, Connect, Endpoint, Failure, Listen, Request, Server};
use support::{Printer, finish, print};

const OPEN: u16 = 1;
const LINES: u16 = 2;

/// Where server and clients meet unless told otherwise.
const DEFAULT: &str = "local:files";

const USAGE: &str = "usage: files serve FOLDER [ENDPOINT]
       files cat NAME [ENDPOINT]
       files lines FILE [ENDPOINT]

ENDPOINT is local:NAME (default local:files), unix:/PATH, abstract:NAME or pipe:NAME";

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let default = OsStr::new(DEFAULT);
    let (command, what, endpoint) = match &args[..] {
        [command, what] => (command.to_str(), what, default),
        [command, what, endpoint] => (command.to_str(), what, endpoint.as_os_str()),
        _ => return finish("files", USAGE, None),
    };
    let result = match command {
        Some("serve") => serve(PathBuf::from(what), endpoint),
        Some("cat") => cat(what, endpoint),
        Some("lines") => lines(Path::new(what), endpoint),
        _ => return finish("files", USAGE, None),
    };
    finish("files", USAGE, Some(result))
}

fn serve(folder: PathBuf, endpoint: &OsStr) -> Result<(), Box<dyn Error>> {
    let mut server = Server::new(folder);
    server.on(OPEN, |folder: &mut PathBuf, request, reply| {
        let name = std::str::from_utf8(request.payload()).map_err(Failure::other)?;
        reply.attach(File::open(folder.join(checked(name)?))?)
    });
    server.on(LINES, |_, request, reply| {
        reply.write(count(request)?.to_string());
        Ok(())
    });
    server.stop_on_signals()?;
    let bound = server.listen(Listen::from(Endpoint::try_from(endpoint)?).attachments(true))?;
    let printer = Printer::new()?;
    printer.print(format!("listening {bound}\n"));
    server.run()?;
    Ok(())
}

/// A name of something in the folder itself, not a way out of it.
fn checked(name: &str) -> Result<&str, Failure> {
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(_)), None) => Ok(name),
        _ => Err(Failure::other("that is not the name of a file in the folder")),
    }
}

/// Whoever sends a file decides what it is: from a pipe, say, the end may never come. A regular file has one.
fn count(request: &Request<'_>) -> Result<usize, Failure> {
    let attached = request.take_attachments().pop();
    let file = attached.ok_or_else(|| Failure::other("no file has come along"))?.into_file();
    if !file.metadata()?.is_file() {
        return Err(Failure::other("that is no regular file"));
    }
    let mut count = 0;
    for line in BufReader::new(file).split(b'\n') {
        line?;
        count += 1;
    }
    Ok(count)
}

fn connect(endpoint: &OsStr) -> Result<Client, Box<dyn Error>> {
    Ok(Connect::to(Endpoint::try_from(endpoint)?)?.attachments(true).open()?)
}

fn cat(name: &OsStr, endpoint: &OsStr) -> Result<(), Box<dyn Error>> {
    let name = name.to_str().ok_or("the name is not UTF-8")?;
    let reply = connect(endpoint)?.call(OPEN, name)?;
    let file = reply.take_attachments().pop().ok_or("the server has sent no file")?;
    for line in BufReader::new(file.into_file()).split(b'\n') {
        print([&line?[..], b"\n"].concat())?;
    }
    Ok(())
}

fn lines(path: &Path, endpoint: &OsStr) -> Result<(), Box<dyn Error>> {
    let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let reply = connect(endpoint)?.request(LINES).send_attached("", [file.into()])?;
    print([reply.payload(), b"\n"].concat())
}
