//! What `contract NAME;` comes to in the macros of messages and events.

/// A type that lists them. The feature is there.
#[doc(hidden)]
#[macro_export]
macro_rules! contract_of {
    ($method:ident $vis:vis $name:ident; encoding $codec:ty; $($entries:tt)*) => {
        $crate::contract_of! { $method $vis $name; $($entries)* }
    };
    ($method:ident $vis:vis $name:ident; $(
        $(#[doc = $about:literal])* $number:literal => $type:ident $(-> $reply:ty)?
            $(, progress $progress:ty)? $(, error $error:ty)?;
    )*) => {
        #[doc = ::core::concat!("The messages that are listed here, as a contract.")]
        #[derive(Debug)]
        $vis enum $name {}

        impl $crate::describe::Contract for $name {
            fn list(list: &mut $crate::describe::List) {
                $(list.$method::<$type>();)*
            }
        }
    };
}
