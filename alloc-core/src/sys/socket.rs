//! Raw system calls for sockets with a path: what the control socket needs.

use core::ffi::CStr;
use core::mem::size_of;

use super::extra::beyond_standard;
use super::{Errno, check, syscall};

/// Bytes of a socket's path at most, the zero byte included.
pub const PATH_BYTES: usize = 108;

const AF_UNIX: u16 = 1;
const SOL_SOCKET: usize = 1;

#[repr(C)]
struct Address {
    family: u16,
    path: [u8; PATH_BYTES],
}

/// The address of a path, and its length. `ENAMETOOLONG`: there is none.
fn address(path: &CStr) -> Result<(Address, usize), Errno> {
    const ENAMETOOLONG: Errno = Errno(36);
    let bytes = path.to_bytes_with_nul();
    let mut address = Address { family: AF_UNIX, path: [0; PATH_BYTES] };
    address.path.get_mut(..bytes.len()).ok_or(ENAMETOOLONG)?.copy_from_slice(bytes);
    Ok((address, size_of::<u16>() + bytes.len()))
}

/// A stream socket without a name, which no successor of the program inherits and whose calls don't wait.
pub fn stream() -> Result<usize, Errno> {
    const SYS_SOCKET: usize = 41;
    const STREAM_NONBLOCK_CLOEXEC: usize = 1 | 0o4000 | 0o2000000;
    // SAFETY: touches no memory of ours.
    check(unsafe { syscall(SYS_SOCKET, [AF_UNIX.into(), STREAM_NONBLOCK_CLOEXEC, 0, 0, 0, 0]) })
        .and_then(beyond_standard)
}

/// Gives a socket its name. The file has the socket's own mode ([`super::extra::set_mode`] before this), cut by the umask.
pub fn bind(fd: usize, path: &CStr) -> Result<(), Errno> {
    const SYS_BIND: usize = 49;
    let (address, length) = address(path)?;
    // SAFETY: the kernel reads that many bytes of the live address.
    check(unsafe { syscall(SYS_BIND, [fd, (&raw const address).addr(), length, 0, 0, 0]) }).map(|_| ())
}

/// `connect(2)`.
pub fn connect(fd: usize, path: &CStr) -> Result<(), Errno> {
    const SYS_CONNECT: usize = 42;
    let (address, length) = address(path)?;
    // SAFETY: the kernel reads that many bytes of the live address.
    check(unsafe { syscall(SYS_CONNECT, [fd, (&raw const address).addr(), length, 0, 0, 0]) }).map(|_| ())
}

/// `listen(2)`.
pub fn listen(fd: usize, waiting: usize) -> Result<(), Errno> {
    // SAFETY: touches no memory of ours.
    check(unsafe { syscall(50, [fd, waiting, 0, 0, 0, 0]) }).map(|_| ())
}

/// The next connection, with the properties of [`stream`].
pub fn accept(fd: usize) -> Result<usize, Errno> {
    const SYS_ACCEPT4: usize = 288;
    const NONBLOCK_CLOEXEC: usize = 0o4000 | 0o2000000;
    // SAFETY: no address is asked for.
    check(unsafe { syscall(SYS_ACCEPT4, [fd, 0, 0, NONBLOCK_CLOEXEC, 0, 0]) }).and_then(beyond_standard)
}

/// The user at the other end, as of when the connection was made.
pub fn peer_user(fd: usize) -> Result<u32, Errno> {
    const SYS_GETSOCKOPT: usize = 55;
    const SO_PEERCRED: usize = 17;
    // Process, user, group.
    let mut credentials = [u32::MAX; 3];
    let mut length = size_of::<[u32; 3]>() as u32;
    let args = [fd, SOL_SOCKET, SO_PEERCRED, credentials.as_mut_ptr().addr(), (&raw mut length).addr(), 0];
    // SAFETY: the kernel writes at most that many bytes, and the length.
    check(unsafe { syscall(SYS_GETSOCKOPT, args) })?;
    Ok(credentials[1])
}

/// What to wait for in [`wait`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Ready {
    /// There is something to read, or a connection, or the other end is gone.
    Read = 1,
    /// There is room to write, or the other end is gone.
    Write = 4,
}

/// Waits until a descriptor is ready, at most so long; whether it is.
pub fn wait(fd: usize, ready: Ready, nanoseconds: u64) -> Result<bool, Errno> {
    const SYS_PPOLL: usize = 271;
    #[repr(C)]
    struct Poll {
        fd: i32,
        events: u16,
        found: u16,
    }
    let mut poll = Poll { fd: fd as i32, events: ready as u16, found: 0 };
    let time = [nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000];
    let args = [(&raw mut poll).addr(), 1, time.as_ptr().addr(), 0, 0, 0];
    // SAFETY: the kernel writes the events that it found, and the time that is left, into live memory.
    check(unsafe { syscall(SYS_PPOLL, args) }).map(|count| count > 0)
}

/// Sends bytes; may send less. A peer that is gone is an error, not a signal.
pub fn send(fd: usize, bytes: &[u8]) -> Result<usize, Errno> {
    const SYS_SENDTO: usize = 44;
    const MSG_DONTWAIT_NOSIGNAL: usize = 0x40 | 0x4000;
    // SAFETY: the kernel reads the live bytes.
    check(unsafe { syscall(SYS_SENDTO, [fd, bytes.as_ptr().addr(), bytes.len(), MSG_DONTWAIT_NOSIGNAL, 0, 0]) })
}

/// Most descriptors that one message brings.
pub const PASSED_MAX: usize = 4;

/// Receives bytes, and descriptors that are passed with them: how many bytes, and the descriptors. More than
/// [`PASSED_MAX`] are closed by the kernel.
pub fn receive(fd: usize, buffer: &mut [u8]) -> Result<(usize, [Option<usize>; PASSED_MAX]), Errno> {
    const SYS_RECVMSG: usize = 47;
    const MSG_DONTWAIT_CMSG_CLOEXEC: usize = 0x40 | 0x4000_0000;
    const SCM_RIGHTS: u32 = 1;
    #[repr(C)]
    struct Control {
        length: usize,
        level: u32,
        kind: u32,
        descriptors: [i32; PASSED_MAX],
    }
    const HEADER: usize = core::mem::offset_of!(Control, descriptors);
    #[repr(C)]
    struct Message {
        name: usize,
        name_length: usize,
        pieces: usize,
        count: usize,
        control: usize,
        control_length: usize,
        flags: usize,
    }
    let mut control = Control { length: 0, level: 0, kind: 0, descriptors: [-1; PASSED_MAX] };
    let piece = [buffer.as_mut_ptr().addr(), buffer.len()];
    let mut message = Message {
        name: 0,
        name_length: 0,
        pieces: piece.as_ptr().addr(),
        count: 1,
        control: (&raw mut control).addr(),
        control_length: size_of::<Control>(),
        flags: 0,
    };
    // SAFETY: the kernel writes at most the buffer's and the control structure's lengths, both of which are alive.
    let length =
        check(unsafe { syscall(SYS_RECVMSG, [fd, (&raw mut message).addr(), MSG_DONTWAIT_CMSG_CLOEXEC, 0, 0, 0]) })?;
    let mut passed = [None; PASSED_MAX];
    let has_rights =
        message.control_length >= HEADER && control.level as usize == SOL_SOCKET && control.kind == SCM_RIGHTS;
    if has_rights {
        let count = control.length.saturating_sub(HEADER) / size_of::<i32>();
        for (place, descriptor) in passed.iter_mut().zip(control.descriptors).take(count) {
            *place = usize::try_from(descriptor).ok().and_then(|fd| beyond_standard(fd).ok());
        }
    }
    Ok((length, passed))
}

/// No more is sent: the other end reads what is there, and then the end.
pub fn shut_down_writing(fd: usize) {
    // SAFETY: touches no memory of ours.
    unsafe { syscall(48, [fd, 1, 0, 0, 0, 0]) };
}
