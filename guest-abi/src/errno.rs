//! Error numbers: what a failed hypercall leaves, negated, in the result register.
//!
//! # Invariants
//! - E1: the numbers are Linux's, whatever the guest is; success is zero or positive, failure negative.

use crate::wire::operations;

operations! {
    /// Why a hypercall did not succeed.
    ///
    /// `name()` is the symbol without its leading `E`.
    pub enum Errno: u16 {
        /// The caller may not do this.
        Perm "PERM" = 1,
        /// There is no such object.
        NoEnt "NOENT" = 2,
        /// There is no such domain.
        Srch "SRCH" = 3,
        /// The device failed, or a list was only partly done.
        Io "IO" = 5,
        /// There is no such device or address.
        NxIo "NXIO" = 6,
        /// The argument list is too long.
        TooBig "2BIG" = 7,
        /// The image is not one we can run.
        NoExec "NOEXEC" = 8,
        /// The handle names nothing.
        BadF "BADF" = 9,
        /// There is no such child.
        Child "CHILD" = 10,
        /// Try again later.
        Again "AGAIN" = 11,
        /// Out of memory.
        NoMem "NOMEM" = 12,
        /// The interface version, or the caller's right to it, does not fit.
        Access "ACCES" = 13,
        /// A pointer of the caller cannot be read or written.
        Fault "FAULT" = 14,
        /// The object is in use.
        Busy "BUSY" = 16,
        /// The object exists already.
        Exist "EXIST" = 17,
        /// The two objects do not belong together.
        XDev "XDEV" = 18,
        /// There is no such device.
        NoDev "NODEV" = 19,
        /// A path names something else than a directory.
        NotDir "NOTDIR" = 20,
        /// A path names a directory.
        IsDir "ISDIR" = 21,
        /// An argument is not valid.
        Inval "INVAL" = 22,
        /// The system's table is full.
        NFile "NFILE" = 23,
        /// The caller's table is full.
        MFile "MFILE" = 24,
        /// No space is left.
        NoSpc "NOSPC" = 28,
        /// The object is read-only.
        RoFs "ROFS" = 30,
        /// Too many links.
        MLink "MLINK" = 31,
        /// The argument is outside the function's domain.
        Dom "DOM" = 33,
        /// The result does not fit.
        Range "RANGE" = 34,
        /// It would wait for itself.
        DeadLk "DEADLK" = 35,
        /// A name is too long.
        NameTooLong "NAMETOOLONG" = 36,
        /// No locks are left.
        NoLck "NOLCK" = 37,
        /// No such hypercall or operation.
        NoSys "NOSYS" = 38,
        /// The directory is not empty.
        NotEmpty "NOTEMPTY" = 39,
        /// There is no data.
        NoData "NODATA" = 61,
        /// The moment has passed.
        Time "TIME" = 62,
        /// The message is malformed.
        BadMsg "BADMSG" = 74,
        /// A value is too large for its field.
        Overflow "OVERFLOW" = 75,
        /// The byte sequence is not valid.
        IlSeq "ILSEQ" = 84,
        /// Not a socket.
        NotSock "NOTSOCK" = 88,
        /// The message is too long.
        MsgSize "MSGSIZE" = 90,
        /// The operation exists but not here.
        OpNotSupp "OPNOTSUPP" = 95,
        /// The address is taken.
        AddrInUse "ADDRINUSE" = 98,
        /// The address cannot be had.
        AddrNotAvail "ADDRNOTAVAIL" = 99,
        /// No buffer space is left.
        NoBufs "NOBUFS" = 105,
        /// Connected already.
        IsConn "ISCONN" = 106,
        /// Not connected.
        NotConn "NOTCONN" = 107,
        /// It took too long.
        TimedOut "TIMEDOUT" = 110,
        /// The other side refuses.
        ConnRefused "CONNREFUSED" = 111,
    }
}

impl Errno {
    /// The hypercall's result: the number, negated (E1).
    #[inline]
    pub const fn as_return_value(self) -> i64 {
        -(self as i64)
    }

    /// The hypercall's result as the bits of the result register.
    #[inline]
    pub const fn as_register(self) -> u64 {
        self.as_return_value() as u64
    }

    /// The error a hypercall's result stands for; `None` for success or a number outside the list.
    #[inline]
    pub const fn from_return_value(result: i64) -> Option<Self> {
        if result < 0 && result >= -(u16::MAX as i64) {
            Self::from_number((-result) as u16)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_is_negative_in_the_register() {
        assert_eq!(Errno::NoSys.as_return_value(), -38);
        assert_eq!(Errno::NoSys.as_register(), 0xffff_ffff_ffff_ffda);
    }

    #[test]
    fn success_is_no_error() {
        assert_eq!(Errno::from_return_value(0), None);
        assert_eq!(Errno::from_return_value(38), None);
        assert_eq!(Errno::from_return_value(i64::MIN), None);
        assert_eq!(Errno::from_return_value(-38), Some(Errno::NoSys));
    }
}
