//! Files of other programs: [`read`] makes pprof messages of them, [`write`] makes them of a profile.

pub mod read;
pub mod write;
