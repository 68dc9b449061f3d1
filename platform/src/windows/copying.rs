//! Bytes between a channel and a child that has no other than its standard streams.
//!
//! Those are anonymous pipes, as programs expect them: they can be read and written by blocking only, each one way ("Pipe
//! Handle Inheritance", learn.microsoft.com/windows/win32/ipc/pipe-handle-inheritance). So a thread copies each.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::thread;

use super::channel::Channel;

/// Bytes that one read takes: what a pipe holds.
const CHUNK: usize = 64 << 10;

/// Copies what comes through the channel to `stdin`, and what comes out of `stdout` back, each until its end. Then the
/// other side sees an end, too.
pub(super) fn start(channel: Channel, stdin: Option<File>, stdout: File) -> io::Result<()> {
    let channel = Arc::new(channel);
    let writing = Arc::clone(&channel);
    let spawn = |work: Box<dyn FnOnce() + Send>| {
        thread::Builder::new().name("sidewire-copy".into()).spawn(work).map(drop)
    };
    let started = spawn(Box::new(move || copy_input(&channel, stdin))).and_then(|()| {
        let channel = Arc::clone(&writing);
        spawn(Box::new(move || copy_output(&channel, stdout)))
    });
    if started.is_err() {
        writing.shutdown();
    }
    started
}

/// A child that has closed its input is not told any more, and what it would have been told is not kept.
fn copy_input(channel: &Channel, mut stdin: Option<File>) {
    let mut chunk = vec![0; CHUNK];
    loop {
        match channel.recv(&mut chunk, None) {
            Ok(0) => return,
            Ok(count) => {
                if let Some(input) = &mut stdin
                    && let Err(error) = input.write_all(&chunk[..count])
                {
                    log::debug!("a child reads no more: {error}");
                    stdin = None;
                }
            }
            Err(error) => return log::debug!("what is for a child can't be read: {error}"),
        }
    }
}

fn copy_output(channel: &Channel, mut stdout: File) {
    let mut chunk = vec![0; CHUNK];
    loop {
        match stdout.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => {
                if let Err(error) = send_all(channel, &chunk[..count]) {
                    log::debug!("a child's output is not wanted any more: {error}");
                    break;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                log::debug!("a child's output can't be read: {error}");
                break;
            }
        }
    }
    // Ours is the server's end: what was not read would be lost with it.
    if let Err(error) = channel.drain() {
        log::debug!("the last of a child's output: {error}");
    }
    channel.hang_up();
}

fn send_all(channel: &Channel, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = channel.send(bytes, None)?;
        bytes = &bytes[count..];
    }
    Ok(())
}
