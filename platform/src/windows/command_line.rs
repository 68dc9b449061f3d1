//! A command's program and arguments as the one text that a process is started with.
//!
//! Each program takes it apart by itself; nearly all do it as CommandLineToArgvW and the C library do
//! ("Parsing C command-line arguments", learn.microsoft.com/cpp/c-language/parsing-c-command-line-arguments;
//! "CommandLineToArgvW function",
//! learn.microsoft.com/windows/win32/api/shellapi/nf-shellapi-commandlinetoargvw). By these rules
//!
//! * the program ends at the quotation mark behind the one that it begins with, and nothing in it is escaped;
//! * an argument ends at a space or tab that is not in quotation marks;
//! * backslashes mean themselves, except in front of a quotation mark, where two are one, and one that
//!   is left over makes the mark an ordinary character.

use std::ffi::OsStr;
use std::io;
use std::os::windows::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use super::reasons::invalid;

const QUOTE: u16 = b'"' as u16;
const BACKSLASH: u16 = b'\\' as u16;
const SPACE: u16 = b' ' as u16;

/// What the system takes, with the NUL at the end ("CreateProcessW function",
/// learn.microsoft.com/windows/win32/api/processthreadsapi/nf-processthreadsapi-createprocessw).
const LONGEST: usize = 32_767;

/// With a NUL at its end.
pub(super) fn command_line(command: &Command) -> io::Result<Vec<u16>> {
    let mut line = program(command.get_program())?;
    for argument in command.get_args() {
        line.push(SPACE);
        append(&mut line, &wide(argument)?);
    }
    line.push(0);
    if line.len() > LONGEST {
        return Err(invalid(format!(
            "the command line has {} characters, Windows allows {LONGEST}",
            line.len()
        )));
    }
    Ok(line)
}

/// In quotation marks, always: else the system would look for a program at each of its spaces.
fn program(program: &OsStr) -> io::Result<Vec<u16>> {
    let text = wide(program)?;
    if text.is_empty() || text.contains(&QUOTE) {
        return Err(invalid(format!("{program:?} names no program")));
    }
    if is_script(program) {
        return Err(invalid(format!(
            "{program:?} is a script of cmd.exe, which takes arguments apart by rules that can't be met; \
             start the program that it starts, or cmd.exe itself"
        )));
    }
    Ok([&[QUOTE], text.as_slice(), &[QUOTE]].concat())
}

/// Whether the system would hand it to cmd.exe. Dots and spaces at the end of a name are not part of it.
fn is_script(program: &OsStr) -> bool {
    let name = Path::new(program).file_name().unwrap_or(program).to_string_lossy().to_ascii_lowercase();
    let name = name.trim_end_matches(['.', ' ']);
    name.ends_with(".bat") || name.ends_with(".cmd")
}

fn append(line: &mut Vec<u16>, argument: &[u16]) {
    // Other control characters end nothing by the rules; but it costs nothing to be sure.
    let is_plain = !argument.is_empty() && !argument.iter().any(|&unit| unit <= SPACE || unit == QUOTE);
    if is_plain {
        return line.extend_from_slice(argument);
    }
    line.push(QUOTE);
    // Backslashes that came last: doubled if a mark follows.
    let mut backslashes = 0;
    for &unit in argument {
        match unit {
            BACKSLASH => backslashes += 1,
            QUOTE => {
                line.extend(std::iter::repeat_n(BACKSLASH, backslashes + 1));
                backslashes = 0;
            }
            _ => backslashes = 0,
        }
        line.push(unit);
    }
    line.extend(std::iter::repeat_n(BACKSLASH, backslashes));
    line.push(QUOTE);
}

/// A text for the system, without the NUL that will end it.
pub(super) fn wide(text: &OsStr) -> io::Result<Vec<u16>> {
    let units: Vec<u16> = text.encode_wide().collect();
    if units.contains(&0) { Err(invalid(format!("{text:?} has a NUL character"))) } else { Ok(units) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::{OsString, c_void};
    use std::os::windows::ffi::OsStringExt;
    use windows_sys::Win32::Foundation::LocalFree;
    use windows_sys::Win32::UI::Shell::CommandLineToArgvW;

    /// What the system makes of a command line.
    fn taken_apart(line: &[u16]) -> Vec<OsString> {
        assert_eq!(line.last(), Some(&0));
        let mut count = 0;
        // SAFETY: the line ends with a NUL; `count` lives on this stack until the call returns.
        let list = unsafe { CommandLineToArgvW(line.as_ptr(), &raw mut count) };
        assert!(!list.is_null());
        let argument = |index| {
            // SAFETY: the list has `count` texts, each with a NUL at its end.
            let start = unsafe { *list.add(index) };
            // SAFETY: as above.
            let length = (0..).take_while(|&at| unsafe { *start.add(at) } != 0).count();
            // SAFETY: as above; it is copied before the list is freed.
            OsString::from_wide(unsafe { std::slice::from_raw_parts(start, length) })
        };
        let all = (0..count as usize).map(argument).collect();
        // SAFETY: the call above allocated the list for us to free.
        unsafe { LocalFree(list.cast::<c_void>()) };
        all
    }

    fn line(program: &str, arguments: &[&str]) -> io::Result<String> {
        let units = command_line(Command::new(program).args(arguments))?;
        Ok(String::from_utf16(&units[..units.len() - 1]).unwrap())
    }

    #[test]
    fn arguments_come_out_as_they_went_in() {
        let program = r"C:\Program Files\a b\x.exe";
        let pieces =
            ["", "a", " ", "\t", "\"", "\\", "\\\\", "\\\"", "ü😀", "a b", "%PATH%", "&", "^", "'", "\n"];
        let mut arguments: Vec<String> = pieces.iter().map(|&piece| piece.to_owned()).collect();
        for first in pieces {
            for second in pieces {
                arguments.extend(pieces.iter().map(|third| format!("{first}{second}{third}")));
            }
        }
        for some in arguments.chunks(500) {
            let apart = taken_apart(&command_line(Command::new(program).args(some)).unwrap());
            assert_eq!(apart[0], program);
            assert_eq!(apart[1..], some.iter().map(OsString::from).collect::<Vec<_>>());
        }
        // Not everything that names files is Unicode.
        let odd = OsString::from_wide(&[0xd800, 0x20, 0x61]);
        assert_eq!(taken_apart(&command_line(Command::new("x").arg(&odd)).unwrap())[1], odd);
    }

    #[test]
    fn only_what_needs_marks_has_them() {
        assert_eq!(line("x", &["a", r"b\", r"c d\", r#"e"f"#, ""]).unwrap(), r#""x" a b\ "c d\\" "e\"f" """#);
    }

    #[test]
    fn what_can_t_be_said_is_refused() {
        for script in ["a.bat", r"C:\x\a.BAT", "a.cmd", "a.cmd. .", r"C:\a b\c.CmD ", "c:/x/a.bat"] {
            let error = line(script, &[]).unwrap_err();
            assert!(error.to_string().contains("cmd.exe"), "{error}");
        }
        for odd in ["", "a\"b", "a\0b"] {
            assert_eq!(line(odd, &[]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
        assert_eq!(line("x", &["a\0b"]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        for fine in ["a.bat.exe", "bat", r"C:\a.bat\x", "x.batch"] {
            line(fine, &[]).unwrap();
        }
        let room = LONGEST - r#""x" "#.len() - 1;
        assert!(line("x", &[&"a".repeat(room)]).is_ok());
        assert!(line("x", &[&"a".repeat(room + 1)]).is_err());
    }
}
