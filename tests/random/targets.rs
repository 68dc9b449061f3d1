//! What strangers can say in texts and values: as wire/tests/targets, each takes any bytes, and panics if something is
//! wrong.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use sidewire::{CommandEndpoint, Endpoint, EndpointError};

/// An endpoint's text, or a command's: what can be read can be written, and is read again as the same; what can't be is
/// told in few words that drive no terminal. No text is both.
pub(crate) fn endpoints(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let endpoint = read_and_write::<Endpoint>(&text);
    if let Some(endpoint) = &endpoint {
        assert!(endpoint.to_string().starts_with(endpoint.scheme()), "{endpoint}");
    }
    if let Some(command) = read_and_write::<CommandEndpoint>(&text) {
        assert!(endpoint.is_none(), "{command}");
        let words: Vec<_> = command.command().get_args().map(|word| word.to_owned()).collect();
        if command.to_string().starts_with("ssh:") {
            let host = words[words.len() - 2].to_string_lossy();
            assert!(words[words.len() - 3] == "--" && !host.starts_with('-'), "{command}");
        }
    }
}

fn read_and_write<T>(text: &str) -> Option<T>
where
    T: FromStr<Err = EndpointError> + Display + Debug + PartialEq,
{
    match text.parse::<T>() {
        Ok(endpoint) => {
            let written = endpoint.to_string();
            assert!(!written.contains(char::is_control), "{}", written.escape_debug());
            assert_eq!(written.parse::<T>().as_ref(), Ok(&endpoint), "{}", written.escape_debug());
            Some(endpoint)
        }
        Err(error) => {
            let words = error.to_string();
            assert!(!words.is_empty() && !words.contains(char::is_control), "{}", words.escape_debug());
            assert!(
                words.chars().count() < 2000 + 8 * text.chars().count(),
                "{} for {}",
                words.len(),
                text.len()
            );
            None
        }
    }
}

#[cfg(feature = "serde")]
pub(crate) use typed::typed;

#[cfg(feature = "serde")]
mod typed {
    use std::collections::BTreeMap;
    use std::fmt::Debug;

    use serde::de::DeserializeOwned;
    use serde::{Deserialize, Serialize};
    use sidewire::typed::{Codec, Postcard};

    #[derive(Debug, Serialize, Deserialize)]
    struct Everything {
        numbers: (bool, i8, u16, i64, u128, f32, char),
        text: String,
        maybe: Option<Option<u8>>,
        nothings: Vec<()>,
        lists: Vec<Vec<Shape>>,
        map: BTreeMap<String, Tree>,
    }

    #[derive(Debug, Serialize, Deserialize)]
    enum Shape {
        None,
        Circle(f32),
        Square { edge: u32, name: Option<String> },
    }

    #[derive(Debug, Serialize, Deserialize)]
    enum Tree {
        Leaf,
        Node(Box<Tree>, Vec<Tree>),
    }

    /// Nests without a bracket.
    #[derive(Debug, Serialize, Deserialize)]
    struct Endless(Option<Box<Endless>>);

    /// A stranger's bytes for a value: they are one, which can be written and read again, or a short word says why not.
    pub(crate) fn typed(data: &[u8]) {
        each_type::<Postcard>(data);
        #[cfg(feature = "json")]
        each_type::<sidewire::typed::Json>(data);
    }

    fn each_type<C: Codec>(data: &[u8]) {
        decode::<C, Everything>(data);
        decode::<C, Tree>(data);
        decode::<C, Endless>(data);
        decode::<C, Vec<()>>(data);
        decode::<C, Vec<String>>(data);
    }

    fn decode<C: Codec, T: DeserializeOwned + Serialize + Debug>(data: &[u8]) {
        match C::decode::<T>(data) {
            Ok(value) => {
                let written = encode::<C, T>(&value);
                let again = C::decode::<T>(&written).unwrap_or_else(|error| panic!("{error}: {value:?}"));
                // Not by their equality, which numbers that are none lack.
                assert_eq!(encode::<C, T>(&again), written, "{value:?}");
            }
            Err(error) => {
                let words = error.to_string();
                assert!(
                    !words.is_empty() && words.len() < 2000 && !words.contains(char::is_control),
                    "{words}"
                );
            }
        }
    }

    fn encode<C: Codec, T: Serialize>(value: &T) -> Vec<u8> {
        let mut bytes = Vec::new();
        C::encode(value, &mut bytes).expect("what was read can be written");
        bytes
    }
}
