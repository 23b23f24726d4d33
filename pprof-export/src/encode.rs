//! A whole message to a file: for the tools that rewrite a profile.

use crate::gzip::GzipStream;
use crate::schema::Profile;
use alloc::vec::Vec;
use prost::Message;

/// Deflate's level for rewritten files: they are read more often than written.
const LEVEL: u32 = 6;

/// The message as gzip pprof. Equal messages give equal bytes.
pub fn encode_gzip(profile: &Profile) -> Vec<u8> {
    let message = profile.encode_to_vec();
    let stream = GzipStream::new(Vec::with_capacity(message.len() / 3), LEVEL);
    // A vector takes everything, short of memory, and the compressor has no reason to refuse.
    stream
        .and_then(|mut stream| {
            stream.write(&message)?;
            stream.finish()
        })
        .expect("compressing into memory")
}
