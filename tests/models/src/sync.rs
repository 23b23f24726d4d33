//! Atomics that can be made in a constant, as the processor's can and loom's cannot: each becomes one of loom's when it is
//! first used, anew in each run of a model. Zero bytes are an atomic zero.

pub mod atomic {
    //! As `core::sync::atomic`.

    use std::collections::HashMap;
    use std::sync::{Arc, Mutex};

    use loom::sync::atomic::AtomicU64 as Word;
    pub use loom::sync::atomic::Ordering;

    loom::lazy_static! {
        /// By address of what stands for them. All are words for loom, whatever they are.
        static ref WORDS: Mutex<HashMap<usize, Arc<Word>>> = Mutex::default();
    }

    fn word(address: usize, initial: u64) -> Arc<Word> {
        let mut words = WORDS.lock().expect("no thread panics in here");
        words.entry(address).or_insert_with(|| Arc::new(Word::new(initial))).clone()
    }

    /// Makes the atomics, all zero, that there may be in these bytes. Loom wants them to be there before other threads are,
    /// or before they learn where they are.
    pub fn prepare(address: usize, bytes: usize) {
        for at in (address.next_multiple_of(4)..address + bytes).step_by(4) {
            let _ = word(at, 0);
        }
    }

    /// The same for a value with zero atomics in it.
    pub fn prepare_in<T>(value: &T) {
        prepare((&raw const *value).addr(), size_of::<T>());
    }

    macro_rules! atomic {
        ($($name:ident: $value:ty;)*) => { $(
            /// As the one of `core`.
            #[derive(Debug)]
            #[repr(transparent)]
            pub struct $name($value);

            #[allow(missing_docs, reason = "they are core's")]
            impl $name {
                pub const fn new(value: $value) -> Self {
                    Self(value)
                }

                fn word(&self) -> Arc<Word> {
                    word((&raw const *self).addr(), self.0 as u64)
                }

                pub fn load(&self, order: Ordering) -> $value {
                    self.word().load(order) as $value
                }

                pub fn store(&self, value: $value, order: Ordering) {
                    self.word().store(value as u64, order);
                }

                pub fn swap(&self, value: $value, order: Ordering) -> $value {
                    self.word().swap(value as u64, order) as $value
                }

                pub fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                    self.word().fetch_add(value as u64, order) as $value
                }

                pub fn fetch_sub(&self, value: $value, order: Ordering) -> $value {
                    self.word().fetch_sub(value as u64, order) as $value
                }

                pub fn compare_exchange(
                    &self,
                    old: $value,
                    new: $value,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<$value, $value> {
                    let done = self.word().compare_exchange(old as u64, new as u64, success, failure);
                    done.map(|value| value as $value).map_err(|value| value as $value)
                }
            }
        )* };
    }

    atomic! {
        AtomicI8: i8;
        AtomicU32: u32;
        AtomicI64: i64;
        AtomicU64: u64;
        AtomicUsize: usize;
    }

    /// As the one of `core`.
    #[derive(Debug)]
    #[repr(transparent)]
    pub struct AtomicPtr<T>(*mut T);

    // SAFETY: the pointer only says what the atomic begins with.
    unsafe impl<T> Sync for AtomicPtr<T> {}
    // SAFETY: as above.
    unsafe impl<T> Send for AtomicPtr<T> {}

    #[allow(missing_docs, reason = "they are core's")]
    impl<T> AtomicPtr<T> {
        pub const fn new(value: *mut T) -> Self {
            Self(value)
        }

        fn word(&self) -> Arc<Word> {
            word((&raw const *self).addr(), self.0.expose_provenance() as u64)
        }

        pub fn load(&self, order: Ordering) -> *mut T {
            core::ptr::with_exposed_provenance_mut(self.word().load(order) as usize)
        }

        pub fn store(&self, value: *mut T, order: Ordering) {
            self.word().store(value.expose_provenance() as u64, order);
        }

        pub fn compare_exchange(
            &self,
            old: *mut T,
            new: *mut T,
            success: Ordering,
            failure: Ordering,
        ) -> Result<*mut T, *mut T> {
            let pointer = |value: u64| core::ptr::with_exposed_provenance_mut(value as usize);
            let (old, new) = (old.expose_provenance() as u64, new.expose_provenance() as u64);
            self.word().compare_exchange(old, new, success, failure).map(pointer).map_err(pointer)
        }
    }
}
