//! The conversations under `tests/conversations`, as the README there describes them.

use std::path::PathBuf;

/// One file.
#[derive(Debug)]
pub(crate) struct Conversation {
    pub name: String,
    pub path: PathBuf,
    /// What the server is to be like.
    pub settings: Vec<(String, String)>,
    /// Each with its line's number.
    pub steps: Vec<(usize, Step)>,
}

/// What one side says in a row.
#[derive(Debug)]
pub(crate) enum Step {
    Send(Vec<u8>),
    SendEnd,
    /// `None` is any byte.
    Expect(Vec<Option<u8>>),
    ExpectEnd,
    StopServer,
}

/// All of them, by their names.
pub(crate) fn conversations() -> Vec<Conversation> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conversations"));
    let entries = std::fs::read_dir(&folder).expect("the folder of the conversations");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    paths.into_iter().map(Conversation::read).collect()
}

impl Conversation {
    fn read(path: PathBuf) -> Conversation {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).expect("a conversation");
        let mut conversation = Conversation { name, path, settings: Vec::new(), steps: Vec::new() };
        for (index, line) in text.lines().enumerate() {
            if let Err(why) = conversation.take(index + 1, line) {
                panic!("{}, line {}: {why}", conversation.path.display(), index + 1);
            }
        }
        conversation
    }

    fn take(&mut self, number: usize, line: &str) -> Result<(), String> {
        let said = line.split(';').next().unwrap_or_default().trim();
        let (word, rest) = said.split_once(' ').unwrap_or((said, ""));
        let step = match (word, rest.trim()) {
            ("", _) => return Ok(()),
            (">", "end") => Step::SendEnd,
            ("<", "end") => Step::ExpectEnd,
            ("!", "stop") => Step::StopServer,
            (">", bytes) => Step::Send(bytes.split(' ').map(byte).collect::<Result<_, _>>()?),
            ("<", bytes) => {
                let any_or_byte = |word| if word == ".." { Ok(None) } else { byte(word).map(Some) };
                Step::Expect(bytes.split(' ').map(any_or_byte).collect::<Result<_, _>>()?)
            }
            (key, value) if self.steps.is_empty() => {
                self.settings.push((key.into(), value.into()));
                return Ok(());
            }
            _ => return Err(format!("'{said}' is no step")),
        };
        match (self.steps.last_mut(), step) {
            (Some((_, Step::Send(earlier))), Step::Send(bytes)) => earlier.extend(bytes),
            (Some((_, Step::Expect(earlier))), Step::Expect(bytes)) => earlier.extend(bytes),
            (_, step) => self.steps.push((number, step)),
        }
        Ok(())
    }

    pub(crate) fn setting(&self, name: &str) -> Option<&str> {
        self.settings.iter().find(|(key, _)| key == name).map(|(_, value)| &value[..])
    }

    /// Whether it happens like that over this scheme. Streams are all alike unless the file says otherwise.
    /// The classic dumps, and refusals in that layout, are those of a little-endian machine.
    pub(crate) fn is_for(&self, scheme: &str) -> bool {
        let foreign = cfg!(target_endian = "big") && !self.name.contains("v1");
        !foreign && self.setting("only").map_or(scheme != "udp", |only| only == scheme)
    }
}

fn byte(word: &str) -> Result<u8, String> {
    match u8::from_str_radix(word, 16) {
        Ok(byte) if word.len() == 2 => Ok(byte),
        _ => Err(format!("'{word}' is no byte")),
    }
}
