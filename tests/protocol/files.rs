//! The conversations of the document are those of the files.

use std::collections::BTreeSet;

use crate::DOCUMENT;
use crate::util::{Conversation, Step, conversations};

/// A fenced block of the document: name, settings as in a file, lines.
struct Block {
    name: &'static str,
    settings: Vec<(String, String)>,
    lines: Vec<&'static str>,
}

fn blocks() -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let mut inside = false;
    for line in DOCUMENT.lines() {
        if let Some(info) = line.strip_prefix("```conversation ") {
            let mut words = info.split_whitespace();
            let name = words.next().expect("a conversation has a name");
            let setting = |word: &str| {
                let (key, value) = word.split_once('=').unwrap_or((word, ""));
                (key.to_owned(), value.to_owned())
            };
            found.push(Block { name, settings: words.map(setting).collect(), lines: Vec::new() });
            inside = true;
        } else if line.starts_with("```") {
            inside = false;
        } else if inside {
            found.last_mut().expect("it was pushed above").lines.push(line);
        }
    }
    found
}

/// Line by line, with what explains them.
#[test]
fn each_is_in_the_document_and_the_same() {
    let (blocks, files) = (blocks(), conversations());
    let in_files: BTreeSet<_> = files.iter().map(|file| &file.name[..]).collect();
    let in_document: BTreeSet<_> = blocks.iter().map(|block| block.name).collect();
    assert_eq!(in_files, in_document);
    assert_eq!(blocks.len(), files.len(), "each name is used once");
    for block in blocks {
        let file = files.iter().find(|file| file.name == block.name).expect("it is there: see above");
        assert_eq!(file.settings, block.settings, "{}", block.name);
        let text = std::fs::read_to_string(&file.path).expect("a conversation");
        let said = |line: &&str| line.starts_with(['>', '<', '!']);
        assert_eq!(text.lines().filter(said).collect::<Vec<_>>(), block.lines, "{}", block.name);
    }
}

#[test]
fn each_stream_is_followed_to_its_end() {
    let streams = conversations().into_iter().filter(|conversation| !conversation.is_for("udp"));
    for Conversation { name, steps, .. } in streams {
        let last = steps.last().map(|(_, step)| step);
        assert!(matches!(last, Some(Step::ExpectEnd)), "{name} ends with '< end', not with {last:?}");
    }
}
