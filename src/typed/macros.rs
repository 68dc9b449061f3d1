//! The macros that give types their numbers.

/// Gives types of your own numbers, and so makes them [messages](crate::typed::Message): what is asked, and what is
/// answered. Both sides need the same definition, so it stands best in a module or crate that both use.
///
/// ```
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct GetStatus;
/// #[derive(Serialize, Deserialize)]
/// struct Status {
///     done: u32,
/// }
///
/// #[derive(Serialize, Deserialize)]
/// struct Pack {
///     folder: String,
/// }
/// #[derive(Serialize, Deserialize)]
/// struct Percent(u8);
/// #[derive(Debug, thiserror::Error, Serialize, Deserialize)]
/// #[error("there is no folder {0}")]
/// struct NoFolder(String);
/// impl sidewire::typed::Fault for NoFolder {}
///
/// #[derive(Serialize, Deserialize)]
/// struct Stop;
///
/// sidewire::messages! {
///     /// How far the helper is.
///     1 => GetStatus -> Status;
///     /// Packs a folder, and says how large it is then.
///     2 => Pack -> u64, progress Percent, error NoFolder;
///     /// Stops packing.
///     3 => Stop;
/// }
/// ```
///
/// What is not said is left out: without `->` the answer is `()`; without `progress` there is none; without `error`
/// the message has no errors of its own, and its handler returns a [`Failure`](crate::Failure) like any other,
/// which takes the error of every crate by `?`. The comments become
/// [`ABOUT`](crate::typed::Message::ABOUT), which the server tells who asks. Two messages of one number do not compile.
///
/// They travel as [`Postcard`](crate::typed::Postcard), unless the first line is another encoding's:
#[cfg_attr(feature = "json", doc = "```")]
#[cfg_attr(not(feature = "json"), doc = "```ignore")]
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct Find { name: String }
/// sidewire::messages! {
///     encoding sidewire::typed::Json;
///     4 => Find -> Vec<String>;
/// }
/// ```
///
/// With the feature `describe` a line `contract NAME;` before makes a type of this name that stands for all of
/// them: see [`describe`](crate#modules).
#[macro_export]
macro_rules! messages {
    (contract $vis:vis $name:ident; $($entries:tt)*) => {
        $crate::messages! { $($entries)* }
        $crate::contract_of! { message $vis $name; $($entries)* }
    };
    (encoding $codec:ty; contract $vis:vis $name:ident; $($entries:tt)*) => {
        $crate::messages! { contract $vis $name; encoding $codec; $($entries)* }
    };
    (encoding $codec:ty; $($entries:tt)*) => {
        $crate::messages_in! { $codec; $($entries)* }
    };
    ($($entries:tt)*) => {
        $crate::messages_in! { $crate::typed::Postcard; $($entries)* }
    };
}

/// Gives types of your own numbers, and so makes them [events](crate::typed::Event). Their numbers are those of
/// topics: a message may have the same.
///
/// ```
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct Changed { count: u64 }
/// sidewire::events! {
///     /// The counter has changed.
///     1 => Changed;
/// }
/// ```
///
/// The encoding is said as with [`messages!`](crate::messages).
#[macro_export]
macro_rules! events {
    (contract $vis:vis $name:ident; $($entries:tt)*) => {
        $crate::events! { $($entries)* }
        $crate::contract_of! { event $vis $name; $($entries)* }
    };
    (encoding $codec:ty; contract $vis:vis $name:ident; $($entries:tt)*) => {
        $crate::events! { contract $vis $name; encoding $codec; $($entries)* }
    };
    (encoding $codec:ty; $($entries:tt)*) => {
        $crate::events_in! { $codec; $($entries)* }
    };
    ($($entries:tt)*) => {
        $crate::events_in! { $crate::typed::Postcard; $($entries)* }
    };
}

/// The entries of [`messages!`](crate::messages). A macro of its own, so that the compiler points at what is
/// wrong in them.
#[doc(hidden)]
#[macro_export]
macro_rules! messages_in {
    (@either , $default:ty) => { $default };
    (@either $given:ty, $default:ty) => { $given };
    ($codec:ty; $(
        $(#[doc = $about:literal])*
        $number:literal => $message:ident $(-> $reply:ty)? $(, progress $progress:ty)? $(, error $error:ty)?;
    )*) => {
        $(impl $crate::typed::Message for $message {
            const TYPE: u16 = $number;
            const NAME: &'static str = ::core::stringify!($message);
            const ABOUT: &'static str = ::core::concat!($($about, "\n"),*).trim_ascii();
            type Reply = $crate::messages_in!(@either $($reply)?, ());
            type Progress = $crate::messages_in!(@either $($progress)?, $crate::typed::Never);
            type Error = $crate::messages_in!(@either $($error)?, $crate::Failure);
            type Codec = $codec;
        })*
        const _: () = $crate::typed::numbers_differ(
            &[$((::core::stringify!($message), $number as u16)),*],
        );
    };
}

/// The same of [`events!`](crate::events).
#[doc(hidden)]
#[macro_export]
macro_rules! events_in {
    ($codec:ty; $($(#[doc = $about:literal])* $number:literal => $event:ident;)*) => {
        $(impl $crate::typed::Event for $event {
            const TYPE: u16 = $number;
            const NAME: &'static str = ::core::stringify!($event);
            const ABOUT: &'static str = ::core::concat!($($about, "\n"),*).trim_ascii();
            type Codec = $codec;
        })*
        const _: () = $crate::typed::numbers_differ(
            &[$((::core::stringify!($event), $number as u16)),*],
        );
    };
}

/// Schemas are not for those who have not asked for them.
#[cfg(not(feature = "describe"))]
#[doc(hidden)]
#[macro_export]
macro_rules! contract_of {
    ($($entries:tt)*) => {
        ::core::compile_error!("`contract NAME;` needs the feature `describe` of sidewire");
    };
}

/// Does not compile if two have the same number, and says which.
#[doc(hidden)]
pub const fn numbers_differ(types: &[(&str, u16)]) {
    let mut second = 1;
    while second < types.len() {
        let mut first = 0;
        while first < second {
            if types[first].1 == types[second].1 {
                let text = Text::new().add(types[first].0).add(" and ").add(types[second].0);
                let text = text.add(" have the same number: give each one of its own");
                panic!("{}", text.get());
            }
            first += 1;
        }
        second += 1;
    }
}

/// A text that the compiler puts together.
struct Text {
    bytes: [u8; 256],
    len: usize,
}

impl Text {
    const fn new() -> Text {
        Text { bytes: [0; 256], len: 0 }
    }

    const fn add(mut self, text: &str) -> Text {
        let text = text.as_bytes();
        let mut next = 0;
        while next < text.len() && self.len < self.bytes.len() {
            self.bytes[self.len] = text[next];
            self.len += 1;
            next += 1;
        }
        self
    }

    const fn get(&self) -> &str {
        match std::str::from_utf8(self.bytes.split_at(self.len).0) {
            Ok(text) => text,
            Err(_) => "two of them have the same number: give each one of its own",
        }
    }
}
