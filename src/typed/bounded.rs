//! Bounds for what is decoded: a stranger's bytes make no value that is deeper, or has more elements, than they pay
//! for. On an error it knows the field.
//!
//! It stands between a deserializer and the types: whatever asks for a list, a struct, an option or the like gets
//! one that counts.

use std::cell::{Cell, RefCell};
use std::fmt::{self, Write};

use serde::Deserialize;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::CodecError;

/// How deep a value may nest. Each level takes a few hundred bytes of the stack, and some kilobytes where nothing
/// is optimised; a thread has 1 MiB at least.
const MAX_DEPTH: u32 = 128;

/// How many elements may come without a byte of their own: in all, since "a list of 2^60 nothings" is ten bytes.
const FREE_ELEMENTS: usize = 1024;

/// Steps of a path that are shown.
const MAX_STEPS: usize = 16;

/// Decodes a value within its bounds.
pub(super) fn decode<'de, T, D>(source: D, bounds: &Bounds) -> Result<T, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    T::deserialize(Bounded { inner: source, levels: MAX_DEPTH, within: Within::Nothing, bounds })
}

/// What a payload may still come to, and where it went wrong.
#[derive(Debug)]
pub(super) struct Bounds {
    elements: Cell<usize>,
    /// The field that was named last, where fields are.
    named: Cell<Option<&'static str>>,
    /// Which bound was passed.
    passed: Cell<Option<&'static str>>,
    /// From the inside out.
    path: RefCell<Vec<Step>>,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Field(&'static str),
    Element(usize),
}

impl Bounds {
    pub(super) fn of(bytes: &[u8]) -> Bounds {
        let elements = bytes.len().saturating_add(FREE_ELEMENTS);
        let (named, passed, path) = (Cell::new(None), Cell::new(None), RefCell::new(Vec::new()));
        Bounds { elements: Cell::new(elements), named, passed, path }
    }

    /// Why it went wrong, as far as the encoding knows, and where.
    #[cold]
    pub(super) fn explain(&self, why: impl fmt::Display) -> CodecError {
        let error = match self.passed.get() {
            Some(passed) => CodecError::new(passed),
            None => CodecError::new(why),
        };
        error.at(self.path())
    }

    fn path(&self) -> String {
        let mut text = String::new();
        let steps = self.path.borrow();
        for step in steps.iter().rev().take(MAX_STEPS) {
            let dot = if text.is_empty() { "" } else { "." };
            // Into a text this can't fail.
            let _ = match step {
                Step::Field(name) => write!(text, "{dot}{name}"),
                Step::Element(index) => write!(text, "[{index}]"),
            };
        }
        if steps.len() > MAX_STEPS {
            text.push('…');
        }
        text
    }

    #[cold]
    fn refuse<E: Error>(&self, why: &'static str) -> E {
        self.passed.set(Some(why));
        E::custom(why)
    }

    #[cold]
    fn note(&self, step: Step) {
        self.path.borrow_mut().push(step);
    }
}

/// What the elements are that come next.
#[derive(Clone, Copy)]
enum Within {
    Nothing,
    /// The fields of a struct.
    Fields(&'static [&'static str]),
    /// The elements of a tuple: as many as its type says.
    Tuple,
    /// As many as the bytes say.
    List,
    /// The name of one of these fields.
    Name(&'static [&'static str]),
}

/// A deserializer, a visitor, a seed, or what gives one element after the other, that counts.
struct Bounded<'b, T> {
    inner: T,
    /// How many may still be inside one another.
    levels: u32,
    within: Within,
    bounds: &'b Bounds,
}

impl<'b, T> Bounded<'b, T> {
    /// The same around something else.
    #[inline]
    fn around<U>(&self, inner: U) -> Bounded<'b, U> {
        Bounded { inner, levels: self.levels, within: Within::Nothing, bounds: self.bounds }
    }

    /// For a visitor, one level further down.
    #[inline]
    fn descend<V, E: Error>(&self, visitor: V, within: Within) -> Result<Bounded<'b, V>, E> {
        let Some(levels) = self.levels.checked_sub(1) else {
            return Err(self.bounds.refuse("it nests deeper than 128 levels"));
        };
        Ok(Bounded { inner: visitor, levels, within, bounds: self.bounds })
    }
}

impl<V> Bounded<'_, V> {
    /// Which field is named, if this is a name.
    #[inline]
    fn heed(&self, text: &str) {
        if let Within::Name(names) = self.within {
            self.bounds.named.set(names.iter().copied().find(|name| *name == text));
        }
    }
}

/// Of a value without others in it.
macro_rules! plainly {
    ($($method:ident)*) => {
        $(#[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.inner.$method(visitor)
        })*
    };
}

/// Of a value with others in it.
macro_rules! deeper {
    ($($method:ident($($name:ident: $type:ty),*) $within:expr;)*) => {
        $(#[inline]
        fn $method<V: Visitor<'de>>(self, $($name: $type,)* visitor: V) -> Result<V::Value, D::Error> {
            let visitor = self.descend(visitor, $within)?;
            self.inner.$method($($name,)* visitor)
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Bounded<'_, D> {
    type Error = D::Error;

    plainly! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f32
        deserialize_f64 deserialize_char deserialize_str deserialize_string deserialize_bytes
        deserialize_byte_buf deserialize_unit deserialize_ignored_any
    }

    deeper! {
        deserialize_any() Within::List;
        deserialize_option() Within::Nothing;
        deserialize_newtype_struct(name: &'static str) Within::Nothing;
        deserialize_seq() Within::List;
        deserialize_map() Within::List;
        deserialize_tuple(len: usize) Within::Tuple;
        deserialize_tuple_struct(name: &'static str, len: usize) Within::Tuple;
        deserialize_struct(name: &'static str, fields: &'static [&'static str]) Within::Fields(fields);
        deserialize_enum(name: &'static str, variants: &'static [&'static str]) Within::Nothing;
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_unit_struct(name, visitor)
    }

    #[inline]
    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let visitor = Bounded { within: self.within, ..self.around(visitor) };
        self.inner.deserialize_identifier(visitor)
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// What a visitor is handed as it is.
macro_rules! visits {
    ($($method:ident $type:ty;)*) => {
        $(#[inline]
        fn $method<E: Error>(self, value: $type) -> Result<V::Value, E> {
            self.inner.$method(value)
        })*
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Bounded<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    visits! {
        visit_bool bool;
        visit_i8 i8;
        visit_i16 i16;
        visit_i32 i32;
        visit_i64 i64;
        visit_i128 i128;
        visit_u8 u8;
        visit_u16 u16;
        visit_u32 u32;
        visit_u64 u64;
        visit_u128 u128;
        visit_f32 f32;
        visit_f64 f64;
        visit_char char;
        visit_string String;
        visit_bytes &[u8];
        visit_borrowed_bytes &'de [u8];
        visit_byte_buf Vec<u8>;
    }

    #[inline]
    fn visit_str<E: Error>(self, text: &str) -> Result<V::Value, E> {
        self.heed(text);
        self.inner.visit_str(text)
    }

    #[inline]
    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<V::Value, E> {
        self.heed(text);
        self.inner.visit_borrowed_str(text)
    }

    #[inline]
    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    #[inline]
    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    #[inline]
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        let deserializer = self.around(deserializer);
        self.inner.visit_some(deserializer)
    }

    #[inline]
    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        let deserializer = self.around(deserializer);
        self.inner.visit_newtype_struct(deserializer)
    }

    #[inline]
    fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<V::Value, A::Error> {
        let elements = Elements::of(self.around(elements), self.within);
        self.inner.visit_seq(elements)
    }

    #[inline]
    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<V::Value, A::Error> {
        let entries = Elements::of(self.around(entries), self.within);
        self.inner.visit_map(entries)
    }

    #[inline]
    fn visit_enum<A: EnumAccess<'de>>(self, variant: A) -> Result<V::Value, A::Error> {
        let variant = self.around(variant);
        self.inner.visit_enum(variant)
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Bounded<'_, S> {
    type Value = S::Value;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        let deserializer = Bounded { within: self.within, ..self.around(deserializer) };
        self.inner.deserialize(deserializer)
    }
}

/// One element, or one entry, after the other.
struct Elements<'b, A> {
    access: Bounded<'b, A>,
    within: Within,
    /// How many came before.
    next: usize,
    /// The name of the field whose value comes next, if it was named.
    named: Option<&'static str>,
}

impl<'b, A> Elements<'b, A> {
    fn of(access: Bounded<'b, A>, within: Within) -> Elements<'b, A> {
        Elements { access, within, next: 0, named: None }
    }

    /// One more has come.
    #[inline]
    fn count<T, E: Error>(&self, element: Option<T>) -> Result<Option<T>, E> {
        if let (Within::List, Some(_)) = (self.within, &element) {
            let bounds = self.access.bounds;
            let Some(left) = bounds.elements.get().checked_sub(1) else {
                return Err(bounds.refuse("it has more elements than bytes"));
            };
            bounds.elements.set(left);
        }
        Ok(element)
    }

    /// Notes which element went wrong.
    #[cold]
    fn note_element(&self) {
        let step = match self.within {
            Within::Fields(names) => names.get(self.next).copied().map(Step::Field),
            Within::Tuple | Within::List => Some(Step::Element(self.next)),
            Within::Nothing | Within::Name(_) => None,
        };
        if let Some(step) = step {
            self.access.bounds.note(step);
        }
    }

    /// How many may come, as the bytes say: a hint for those who make room.
    fn hint(&self, hint: Option<usize>) -> Option<usize> {
        Some(hint?.min(self.access.bounds.elements.get()))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Elements<'_, A> {
    type Error = A::Error;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let seed = self.access.around(seed);
        let element = self.access.inner.next_element_seed(seed);
        let element = element.and_then(|element| self.count(element));
        match &element {
            Ok(_) => self.next += 1,
            Err(_) => self.note_element(),
        }
        element
    }

    fn size_hint(&self) -> Option<usize> {
        self.hint(self.access.inner.size_hint())
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Elements<'_, A> {
    type Error = A::Error;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let mut seed = self.access.around(seed);
        if let Within::Fields(names) = self.within {
            seed.within = Within::Name(names);
        }
        let key = self.access.inner.next_key_seed(seed)?;
        self.named = self.access.bounds.named.take();
        self.count(key)
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        let seed = self.access.around(seed);
        let value = self.access.inner.next_value_seed(seed);
        if let (Err(_), Some(name)) = (&value, self.named) {
            self.access.bounds.note(Step::Field(name));
        }
        value
    }

    fn size_hint(&self) -> Option<usize> {
        self.hint(self.access.inner.size_hint())
    }
}

impl<'de, 'b, A: EnumAccess<'de>> EnumAccess<'de> for Bounded<'b, A> {
    type Error = A::Error;
    type Variant = Bounded<'b, A::Variant>;

    #[inline]
    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self::Variant), A::Error> {
        let (levels, bounds) = (self.levels, self.bounds);
        let (value, variant) = self.inner.variant_seed(seed)?;
        Ok((value, Bounded { inner: variant, levels, within: Within::Nothing, bounds }))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Bounded<'_, A> {
    type Error = A::Error;

    #[inline]
    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    #[inline]
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        let seed = self.around(seed);
        self.inner.newtype_variant_seed(seed)
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        let visitor = Bounded { within: Within::Tuple, ..self.around(visitor) };
        self.inner.tuple_variant(len, visitor)
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        let visitor = Bounded { within: Within::Fields(fields), ..self.around(visitor) };
        self.inner.struct_variant(fields, visitor)
    }
}
