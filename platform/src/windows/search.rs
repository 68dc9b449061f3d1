//! Where the program of a command is.
//!
//! CreateProcessW alone would look in the current folder, too, before the system's ("CreateProcessW function",
//! learn.microsoft.com/windows/win32/api/processthreadsapi/nf-processthreadsapi-createprocessw): a program that was put
//! there by others would be started instead. [`std::process::Command`] never does that, and so neither do we.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::windows::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use windows_sys::Win32::System::SystemInformation::{GetSystemDirectoryW, GetWindowsDirectoryW};

/// What is started for a command: its program as it is, if that says a folder, else what is found under the name.
pub(super) fn program_of(command: &Command) -> io::Result<PathBuf> {
    let program = command.get_program();
    if !is_mere_name(program) {
        let extended = with_extension(program);
        return Ok(if is_program(&extended) { extended } else { program.into() });
    }
    let name = if program.encode_wide().any(|unit| unit == u16::from(b'.')) {
        PathBuf::from(program)
    } else {
        with_extension(program)
    };
    let mut candidates = folders(command).into_iter().map(|folder| folder.join(&name));
    candidates.find(|candidate| is_program(candidate)).ok_or_else(|| {
        let text = format!(
            "there is no {} beside this program, in the system's folders, or in PATH",
            name.to_string_lossy()
        );
        io::Error::new(io::ErrorKind::NotFound, text)
    })
}

/// `x`, not `.\x`, `c:\x` or `c:x`.
fn is_mere_name(program: &OsStr) -> bool {
    !program.encode_wide().any(|unit| [b'/', b'\\', b':'].into_iter().any(|mark| unit == u16::from(mark)))
}

fn with_extension(program: &OsStr) -> PathBuf {
    let mut name = program.to_owned();
    if !program.to_string_lossy().to_ascii_lowercase().ends_with(".exe") {
        name.push(".exe");
    }
    name.into()
}

/// Also what can't be opened itself, as the names that Windows has for apps of its store.
fn is_program(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| !found.is_dir())
}

/// In the order in which they are looked at, as std does: the child's own PATH first, if it has one.
fn folders(command: &Command) -> Vec<PathBuf> {
    let own = command.get_envs().find(|(name, _)| name.eq_ignore_ascii_case("PATH"));
    let own = own.and_then(|(_, value)| value.map(OsStr::to_owned));
    let beside = std::env::current_exe().ok().and_then(|program| program.parent().map(Path::to_owned));
    let listed = |path: Option<OsString>| {
        let listed = path.iter().flat_map(|path| std::env::split_paths(path).collect::<Vec<_>>());
        // An empty one would be the current folder.
        listed.filter(|folder| folder.is_absolute()).collect::<Vec<_>>()
    };
    let mut folders = listed(own);
    folders.extend(beside);
    folders.extend(system_directory());
    folders.extend(system_folder(GetWindowsDirectoryW));
    folders.extend(listed(std::env::var_os("PATH")));
    folders
}

/// Where the system's programs are. Nobody but administrators changes anything there.
pub(super) fn system_directory() -> Option<PathBuf> {
    system_folder(GetSystemDirectoryW)
}

type Ask = unsafe extern "system" fn(*mut u16, u32) -> u32;

fn system_folder(ask: Ask) -> Option<PathBuf> {
    let mut room = vec![0; 32_768];
    // SAFETY: both functions write at most as many units as they are told, which `room` has; it lives until the
    // call returns.
    let count = unsafe { ask(room.as_mut_ptr(), room.len() as u32) } as usize;
    let text = room.get(..count).filter(|text| !text.is_empty())?;
    Some(OsString::from_wide(text).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(program: impl AsRef<OsStr>) -> io::Result<PathBuf> {
        program_of(&Command::new(program))
    }

    #[test]
    fn a_name_is_found_beside_us_in_the_system_or_in_path_and_nowhere_else() {
        let system = system_folder(GetSystemDirectoryW).unwrap();
        for name in ["cmd", "cmd.exe", "CMD.EXE"] {
            let path = found(name).unwrap();
            assert!(path.starts_with(&system) && path.is_file(), "{}", path.display());
        }
        let ours = std::env::current_exe().unwrap();
        assert_eq!(found(ours.file_name().unwrap()).unwrap(), ours);
        assert_eq!(found(ours.file_stem().unwrap()).unwrap(), ours);
        // Tests begin in the folder of their package, so this is there.
        assert!(Path::new("Cargo.toml").is_file());
        for name in ["Cargo.toml", "no-such-program", "..", "src"] {
            assert_eq!(found(name).unwrap_err().kind(), io::ErrorKind::NotFound, "{name}");
        }
    }

    #[test]
    fn the_childs_own_path_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        let (plain, other) = (folder.path().join("cmd.exe"), folder.path().join("x.y"));
        fs::write(&plain, "").unwrap();
        fs::write(&other, "").unwrap();
        let in_path = |name: &str, path: &OsStr| program_of(Command::new(name).env("Path", path));
        assert_eq!(in_path("cmd", folder.path().as_os_str()).unwrap(), plain);
        assert_eq!(in_path("x.y", folder.path().as_os_str()).unwrap(), other);
        assert_ne!(in_path("cmd", OsStr::new(";.")).unwrap(), plain);
        assert!(in_path("Cargo.toml", OsStr::new(";.;\"\"")).is_err());
        assert_ne!(program_of(Command::new("cmd").env_remove("PATH")).unwrap(), plain);
    }

    #[test]
    fn what_says_a_folder_is_what_it_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.b");
        assert_eq!(found(&path).unwrap(), path);
        fs::write(folder.path().join("a.b.exe"), "").unwrap();
        assert_eq!(found(&path).unwrap(), folder.path().join("a.b.exe"));
        assert_eq!(found(r".\none").unwrap(), Path::new(r".\none"));
        assert_eq!(found("c:none.exe").unwrap(), Path::new("c:none.exe"));
    }
}
