//! The environment of a child as the block that a process is started with.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::process::Command;
use std::{env, io};

use windows_sys::Win32::Foundation::TRUE;
use windows_sys::Win32::Globalization::{CSTR_EQUAL, CSTR_GREATER_THAN, CompareStringOrdinal};

use super::command_line::wide;
use super::reasons::invalid;

/// A variable's name, in the order that the block has: "The sort is case-insensitive, Unicode order,
/// without regard to locale" ("Changing Environment Variables",
/// learn.microsoft.com/windows/win32/procthread/changing-environment-variables). Names that differ in
/// case only are one.
#[derive(Debug)]
struct Name(Vec<u16>);

impl Ord for Name {
    fn cmp(&self, other: &Name) -> Ordering {
        let [length, other_length] =
            [self, other].map(|name| i32::try_from(name.0.len()).unwrap_or(i32::MAX));
        // SAFETY: both texts are as long as said, and borrowed until the call returns.
        let order =
            unsafe { CompareStringOrdinal(self.0.as_ptr(), length, other.0.as_ptr(), other_length, TRUE) };
        match order {
            CSTR_EQUAL => Ordering::Equal,
            CSTR_GREATER_THAN => Ordering::Greater,
            _ => Ordering::Less,
        }
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Name) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Name {}

/// A name that is removed where it isn't to be seen whether a command's environment begins empty.
const PROBE: &str = "SIDEWIRE_PARENT";

/// What the child of a command gets, and `ours`, if there is such a one, on top of it: `name=value`, each with a NUL
/// at its end, and one more.
pub(super) fn block(command: &mut Command, ours: Option<(&str, &str)>) -> io::Result<Vec<u16>> {
    let mut variables = BTreeMap::new();
    if !is_cleared(command) {
        // The folders of drives among them, whose names begin with `=`.
        for (name, value) in env::vars_os() {
            variables.insert(Name(wide(&name)?), wide(&value)?);
        }
    }
    for (name, value) in command.get_envs() {
        let name = checked(name)?;
        match value {
            Some(value) => _ = variables.insert(name, wide(value)?),
            None => _ = variables.remove(&name),
        }
    }
    if let Some((name, value)) = ours {
        variables.insert(checked(OsStr::new(name))?, wide(OsStr::new(value))?);
    }
    let mut block = Vec::new();
    for (Name(name), value) in variables {
        block.extend(name);
        block.push(u16::from(b'='));
        block.extend(value);
        block.push(0);
    }
    block.push(0);
    Ok(block)
}

/// Whether [`Command::env_clear`] was called, which nothing says; but a command that begins with
/// nothing does not note what it is to remove.
fn is_cleared(command: &mut Command) -> bool {
    command.env_remove(PROBE);
    !command.get_envs().any(|(name, value)| name.eq_ignore_ascii_case(PROBE) && value.is_none())
}

fn checked(name: &OsStr) -> io::Result<Name> {
    let units = wide(name)?;
    if units.is_empty() || units[1..].contains(&u16::from(b'=')) {
        return Err(invalid(format!("{name:?} is no name of a variable")));
    }
    Ok(Name(units))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(command: &mut Command) -> Vec<String> {
        let block = block(command, Some(("SIDEWIRE_CHANNEL", "pipe:1"))).unwrap();
        let text = String::from_utf16(&block).unwrap();
        let text = text.strip_suffix("\0\0").expect("two at the end");
        text.split('\0').map(str::to_owned).collect()
    }

    #[test]
    fn the_block_is_sorted_and_ours_wins() {
        let mut command = Command::new("x");
        command.env_clear().env("b", "1").env("A_", "2").env("AB", "3").env("a", "").env("ü", "=");
        command.env("Sidewire_Channel", "theirs").env("gone", "4").env_remove("GONE");
        let expected = ["a=", "AB=3", "A_=2", "b=1", "SIDEWIRE_CHANNEL=pipe:1", "ü=="];
        let lines = lines(&mut command);
        let upper: Vec<_> = lines.iter().map(|line| line.to_uppercase()).collect();
        assert_eq!(upper, expected.map(str::to_uppercase));
    }

    #[test]
    fn what_is_not_mentioned_is_inherited() {
        let path = env::var("PATH").unwrap();
        let has_path = |lines: &[String]| {
            lines.iter().any(|line| line.to_uppercase() == format!("PATH={path}").to_uppercase())
        };
        assert!(has_path(&lines(&mut Command::new("x"))));
        assert!(has_path(&lines(Command::new("x").env("x", "y"))));
        assert!(!has_path(&lines(Command::new("x").env_remove("path"))));
        assert!(lines(Command::new("x").env_remove("path")).len() > 2);
        assert_eq!(lines(Command::new("x").env_clear()), ["SIDEWIRE_CHANNEL=pipe:1"]);
        // Used again, it says the same.
        let mut command = Command::new("x");
        command.env_clear();
        assert_eq!(lines(&mut command), lines(&mut command));
        let mut command = Command::new("x");
        assert_eq!(lines(&mut command), lines(&mut command));
    }

    #[test]
    fn what_is_no_variable_is_refused() {
        for (name, value) in [("", "x"), ("a=b", "x"), ("a\0", "x"), ("a", "x\0")] {
            let error = block(Command::new("x").env(name, value), None).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name:?}");
        }
    }
}
