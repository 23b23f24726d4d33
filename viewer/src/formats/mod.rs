//! Files of other programs: [`read`] makes pprof messages of them, [`write`] makes them of a profile, [`parquet`] makes
//! tables of many.

pub mod parquet;
pub mod read;
pub mod write;
