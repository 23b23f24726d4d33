//! What a dump may show.

/// What a dump shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// What lives, and all that was ever allocated.
    Heap,
    /// The same at the moment at which most was allocated; needs `prof_peak:true`.
    Peak,
    /// Usable bytes that nobody asked for, where they were allocated.
    Waste,
    /// Blocks that were freed, by how long they had lived.
    Lifetime,
    /// Free blocks in slabs that can't be given back, by the stacks whose blocks keep them.
    Slack,
    /// Resident memory: of what it is made.
    Resident,
}

/// All kinds, by the names that `dump` of the control socket takes.
pub const KINDS: [(&[u8], Kind); 6] = [
    (b"heap", Kind::Heap),
    (b"peak", Kind::Peak),
    (b"waste", Kind::Waste),
    (b"lifetime", Kind::Lifetime),
    (b"slack", Kind::Slack),
    (b"rss", Kind::Resident),
];

impl Kind {
    /// The kind of a name.
    pub fn by_name(name: &[u8]) -> Option<Self> {
        KINDS.iter().find(|(known, _)| *known == name).map(|&(_, kind)| kind)
    }

    /// The end of the names of numbered dumps.
    pub(crate) const fn ending(self, format: Format) -> &'static [u8] {
        match self {
            Kind::Heap | Kind::Peak if matches!(format, Format::HeapV2) => b".heap",
            Kind::Heap | Kind::Peak => b".heap.pb.gz",
            Kind::Waste => b".waste.pb.gz",
            Kind::Lifetime => b".lifetime.pb.gz",
            Kind::Slack => b".slack.pb.gz",
            Kind::Resident => b".rss.pb.gz",
        }
    }
}

/// How the plain profile and that of the peak are written to files; others are always pprof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Gzip pprof.
    Pprof,
    /// jemalloc's text.
    HeapV2,
}
