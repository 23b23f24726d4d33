//! The stacks of a dump as its rows have them, in the order of the rows: root first, so that those with callers in common
//! stand together, which makes files small.
//!
//! They are read in the order in which they are in memory, which is far quicker than any other when there are many, and
//! what the file has of them is sorted afterwards.

use alloc::vec::Vec;

use pprof_export::located::{Ids, Located};
use pprof_export::writer::{Sink, SinkError, VirtualFrame, Writer};

use crate::profiler::Profiler;
use crate::stacks::{Stack, StackId, View};
use crate::table::prefetch;
use crate::unwind::End;

/// The stacks.
#[derive(Debug)]
pub struct Ordered {
    /// Each known by its number, shifted, and by its [`Above`].
    located: Located,
}

/// What stands above the outermost frame of a stack.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
enum Above {
    Nothing,
    Truncated,
    Lost,
    /// There is no frame.
    All,
}

impl Above {
    const BITS: u32 = 2;

    fn of(stack: &Stack<'_>) -> Self {
        match stack.end {
            _ if stack.frames.is_empty() => Above::All,
            End::Complete => Above::Nothing,
            End::Truncated => Above::Truncated,
            End::Lost => Above::Lost,
        }
    }

    /// The name of the frame that stands there, if one does.
    fn name(bits: u32) -> Option<&'static [u8]> {
        const NAMES: [Option<&[u8]>; 1 << Above::BITS] =
            [None, Some(b"[truncated stack]"), Some(b"[unknown callers]"), Some(b"(truncated)")];
        NAMES[bits as usize % NAMES.len()]
    }
}

/// One of them.
#[derive(Clone, Copy, Debug)]
pub struct OrderedStack<'a> {
    /// Its number.
    pub id: StackId,
    /// Its locations.
    pub ids: Ids<'a>,
    /// What stands above the outermost one when the stack isn't whole.
    pub root: Option<VirtualFrame>,
}

impl Ordered {
    /// `count` stacks, best by number. Their locations are written.
    pub fn new<S: Sink>(
        writer: &mut Writer<S>,
        view: View,
        count: usize,
        stacks: impl Iterator<Item = StackId>,
    ) -> Result<Self, SinkError> {
        let mut located = Located::new();
        located.reserve(count)?;
        for id in stacks {
            let stack = view.get(id);
            writer.locate(&mut located, id.0 << Above::BITS | Above::of(&stack) as u32, stack.frames)?;
        }
        located.sort();
        Ok(Ordered { located })
    }

    /// The stacks of `rows`; each row is told the place of its own among them.
    pub fn of_rows<S: Sink, T>(
        writer: &mut Writer<S>,
        profiler: &'static Profiler,
        rows: &mut [T],
        stack_of: impl Fn(&T) -> StackId,
        place_at: impl Fn(&mut T, u32),
    ) -> Result<Self, SinkError> {
        let view = profiler.stacks.view();
        // By number: whether there is a row, then the place.
        let mut places: Vec<u32> = Vec::new();
        places.try_reserve_exact(view.count()).map_err(|_| SinkError::OUT_OF_MEMORY)?;
        places.resize(view.count(), 0);
        for row in rows.iter() {
            places[stack_of(row).0 as usize] = 1;
        }
        let found = (0..).map(StackId).zip(&places).filter(|&(_, &is_there)| is_there != 0).map(|(id, _)| id);
        let stacks = Self::new(writer, view, found.clone().count(), found)?;
        for at in 0..stacks.len() {
            let (number, _) = stacks.located.get(at);
            places[(number >> Above::BITS) as usize] = at as u32;
        }
        for row in rows {
            let at = places[stack_of(row).0 as usize];
            place_at(row, at);
        }
        Ok(stacks)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.located.len()
    }

    /// The number of the stack at a place, if there is one.
    pub fn id(&self, at: usize) -> Option<StackId> {
        (at < self.len()).then(|| StackId(self.located.get(at).0 >> Above::BITS))
    }

    /// Asks for the memory of the stack at a place.
    pub fn prefetch(&self, at: usize) {
        if at < self.len() {
            let ids = self.located.get(at).1.as_bytes();
            ids.first().into_iter().chain(ids.last()).for_each(|byte| prefetch(byte));
        }
    }

    /// The stack at a place.
    pub fn get<S: Sink>(&self, at: usize, writer: &mut Writer<S>) -> Result<OrderedStack<'_>, SinkError> {
        let (number, ids) = self.located.get(at);
        let root = Above::name(number).map(|name| writer.virtual_frame(name)).transpose()?;
        Ok(OrderedStack { id: StackId(number >> Above::BITS), ids, root })
    }
}
