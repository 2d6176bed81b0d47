//! The safe codec: how a structure of the interface becomes bytes in guest memory and back.
//!
//! Guest memory is never viewed through a reference: it changes under us. It is copied, once, into a byte
//! buffer, and [`Wire::read_from`] makes a value of that buffer. The macro `wire_struct!` defines a structure
//! together with its codec, so the two cannot disagree.
//!
//! # Invariants
//! - W1: the codec of a structure and its `repr(C)` layout are the same: every field is written where the
//!   compiler puts it, and the offsets stated in the definition are asserted against both.
//! - W2: no byte of a structure belongs to no field. Padding is a named field, so writing a value never leaves
//!   a byte of the buffer as it was, and nothing of ours can leak through a gap.
//! - W3: reading and writing are total: a short buffer gives `None` and is left untouched, and every bit
//!   pattern is a value.

/// Where one field of a structure lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The field's name in this crate; padding starts with an underscore.
    pub name: &'static str,
    /// Distance in bytes from the start of the structure.
    pub offset: usize,
    /// Size in bytes.
    pub size: usize,
}

/// A value with one fixed little-endian form in guest memory.
pub trait Wire: Copy {
    /// Bytes the value takes in memory.
    const SIZE: usize;
    /// The value whose bytes are all zero.
    const ZERO: Self;
    /// The fields in order of offset; empty for integers and arrays.
    const FIELDS: &'static [Field];

    /// The value in the first [`Self::SIZE`] bytes, or `None` if there are fewer.
    fn read_from(bytes: &[u8]) -> Option<Self>;

    /// Puts the value into the first [`Self::SIZE`] bytes; `None`, and nothing written, if there are fewer.
    fn write_to(&self, bytes: &mut [u8]) -> Option<()>;
}

macro_rules! wire_integers {
    ($($int:ty),*) => { $(
        impl Wire for $int {
            const SIZE: usize = size_of::<$int>();
            const ZERO: Self = 0;
            const FIELDS: &'static [Field] = &[];

            #[inline(always)]
            fn read_from(bytes: &[u8]) -> Option<Self> {
                Some(Self::from_le_bytes(*bytes.first_chunk()?))
            }

            #[inline(always)]
            fn write_to(&self, bytes: &mut [u8]) -> Option<()> {
                *bytes.first_chunk_mut()? = self.to_le_bytes();
                Some(())
            }
        }
    )* };
}

wire_integers!(u8, u16, u32, u64, i8, i16, i32, i64);

impl<T: Wire, const N: usize> Wire for [T; N] {
    const SIZE: usize = N * T::SIZE;
    const ZERO: Self = [T::ZERO; N];
    const FIELDS: &'static [Field] = &[];

    #[inline(always)]
    fn read_from(bytes: &[u8]) -> Option<Self> {
        const { assert!(T::SIZE > 0) };
        let bytes = bytes.get(..Self::SIZE)?;
        let mut array = Self::ZERO;
        for (element, chunk) in array.iter_mut().zip(bytes.chunks_exact(T::SIZE)) {
            *element = T::read_from(chunk)?;
        }
        Some(array)
    }

    #[inline(always)]
    fn write_to(&self, bytes: &mut [u8]) -> Option<()> {
        const { assert!(T::SIZE > 0) };
        let bytes = bytes.get_mut(..Self::SIZE)?;
        for (element, chunk) in self.iter().zip(bytes.chunks_exact_mut(T::SIZE)) {
            element.write_to(chunk)?;
        }
        Some(())
    }
}

/// Defines structures of the interface with their codec.
///
/// The number after the structure's name is its size, the number before a field its offset, both in bytes and
/// both asserted when the crate is compiled (W1, W2).
macro_rules! wire_struct {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident: $size:literal {
            $( $(#[$field_meta:meta])* $offset:literal $field:ident: $ty:ty, )*
        }
    )*) => { $(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(C)]
        pub struct $name {
            $( $(#[$field_meta])* pub $field: $ty, )*
        }

        const _: () = {
            assert!(size_of::<$name>() == $size);
            $( assert!(core::mem::offset_of!($name, $field) == $offset); )*
            $( assert!(size_of::<$ty>() == <$ty as $crate::wire::Wire>::SIZE); )*
            assert!(0 $( + size_of::<$ty>() )* == $size, "a gap has no name");
        };

        impl $name {
            /// The value whose bytes are all zero.
            pub const ZERO: Self = Self { $( $field: <$ty as $crate::wire::Wire>::ZERO, )* };
        }

        impl Default for $name {
            fn default() -> Self {
                Self::ZERO
            }
        }

        impl $crate::wire::Wire for $name {
            const SIZE: usize = $size;
            const ZERO: Self = Self::ZERO;
            const FIELDS: &'static [$crate::wire::Field] = &[ $( $crate::wire::Field {
                name: stringify!($field),
                offset: $offset,
                size: size_of::<$ty>(),
            }, )* ];

            #[inline(always)]
            fn read_from(bytes: &[u8]) -> Option<Self> {
                // One check for the whole; the optimiser drops those on the constant offsets inside.
                let bytes = bytes.get(..$size)?;
                Some(Self { $( $field: <$ty as $crate::wire::Wire>::read_from(bytes.get($offset..)?)?, )* })
            }

            #[inline(always)]
            fn write_to(&self, bytes: &mut [u8]) -> Option<()> {
                let bytes = bytes.get_mut(..$size)?;
                $(
                    // By value: a field of a packed structure has no reference.
                    let field = self.$field;
                    $crate::wire::Wire::write_to(&field, bytes.get_mut($offset..)?)?;
                )*
                Some(())
            }
        }
    )* };
}

/// Defines an enumeration of operation numbers: the variant, the interface's own name for it, and the number.
macro_rules! operations {
    (
        $(#[$meta:meta])*
        pub enum $name:ident: $repr:ty {
            $( $(#[$variant_meta:meta])* $variant:ident $c_name:literal = $number:literal, )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr($repr)]
        pub enum $name {
            $( $(#[$variant_meta])* $variant = $number, )*
        }

        impl $name {
            /// Every operation of the family, in order of number.
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )* ];

            /// The operation with this number, or `None` if the family has no such.
            #[inline]
            pub const fn from_number(number: $repr) -> Option<Self> {
                match number {
                    $( $number => Some(Self::$variant), )*
                    _ => None,
                }
            }

            /// The number a guest passes.
            #[inline]
            pub const fn number(self) -> $repr {
                self as $repr
            }

            /// The name the public interface uses, without the family's prefix; for traces.
            pub const fn name(self) -> &'static str {
                match self {
                    $( Self::$variant => $c_name, )*
                }
            }
        }
    };
}

pub(crate) use operations;
pub(crate) use wire_struct;

#[cfg(test)]
mod tests {
    use super::*;

    wire_struct! {
        /// A structure of every kind of field.
        pub struct Mixed: 24 {
            /// A byte.
            0 byte: u8,
            /// Padding.
            1 _pad0: [u8; 1],
            /// A signed half word.
            2 half: i16,
            /// Words.
            4 words: [u32; 3],
            /// A long.
            16 long: u64,
        }
    }

    #[test]
    fn a_value_survives_the_way_through_bytes() {
        let value = Mixed {
            byte: 1,
            _pad0: [2],
            half: -3,
            words: [4, 5, 0xffff_fffe],
            long: u64::MAX - 7,
        };
        let mut bytes = [0xaa; 24];
        assert_eq!(value.write_to(&mut bytes), Some(()));
        assert_eq!(Mixed::read_from(&bytes), Some(value));
        assert_eq!(bytes.get(2..4), Some(&(-3i16).to_le_bytes()[..]));
        assert_eq!(bytes.get(16..), Some(&(u64::MAX - 7).to_le_bytes()[..]));
    }

    #[test]
    fn a_short_buffer_is_refused_and_left_alone() {
        let mut bytes = [0xaa; 23];
        assert_eq!(Mixed::read_from(&bytes), None);
        assert_eq!(Mixed::ZERO.write_to(&mut bytes), None);
        assert_eq!(bytes, [0xaa; 23]);
    }

    #[test]
    fn a_longer_buffer_keeps_its_tail() {
        let mut bytes = [0xaa; 32];
        assert_eq!(Mixed::ZERO.write_to(&mut bytes), Some(()));
        assert_eq!(bytes.get(..24), Some(&[0; 24][..]));
        assert_eq!(bytes.get(24..), Some(&[0xaa; 8][..]));
    }
}
