//! Sets of message types and topics, as the command line says them: `1-8,12`.

use std::collections::BTreeSet;
use std::fmt;

/// Some numbers of types.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Types(BTreeSet<u16>);

impl Types {
    pub(crate) fn contains(&self, msg_type: u16) -> bool {
        self.0.contains(&msg_type)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        self.0.iter().copied()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn insert(&mut self, msg_type: u16) {
        self.0.insert(msg_type);
    }
}

impl FromIterator<u16> for Types {
    fn from_iter<I: IntoIterator<Item = u16>>(types: I) -> Types {
        Types(types.into_iter().collect())
    }
}

/// From the command line.
pub(crate) fn parse(text: &str) -> Result<Types, String> {
    let number = |text: &str| text.trim().parse::<u16>().map_err(|_| expected(text));
    let ranges = text.split(',').map(|range| match range.split_once('-') {
        None => number(range).map(|one| one..=one),
        Some((first, last)) => match (number(first)?, number(last)?) {
            (first, last) if first <= last => Ok(first..=last),
            _ => Err(expected(range)),
        },
    });
    let ranges: Vec<_> = ranges.collect::<Result<_, _>>()?;
    Ok(ranges.into_iter().flatten().collect())
}

fn expected(text: &str) -> String {
    format!("'{text}' is no type: expected numbers from 0 to 65535, as in 1-8,12")
}

impl fmt::Display for Types {
    /// As the command line says them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut types = self.iter().peekable();
        let mut between = "";
        while let Some(first) = types.next() {
            let mut last = first;
            while let Some(next) = types.next_if(|next| Some(*next) == last.checked_add(1)) {
                last = next;
            }
            write!(f, "{between}{first}")?;
            if last > first {
                write!(f, "-{last}")?;
            }
            between = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn what_is_said_is_read_and_said_again() {
        for text in ["0", "1-8", "1-8,12", "0-65535", "65534-65535", ""] {
            let read = if text.is_empty() { Default::default() } else { parse(text).expect(text) };
            assert_eq!(read.to_string(), text);
        }
        assert_eq!(parse("3,1,2, 2").expect("types").to_string(), "1-3");
        for wrong in ["", "x", "8-1", "-1", "1-", "65536", "1,,2"] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
