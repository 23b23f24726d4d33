//! `prof.*`, `thread.prof.*` and the profiler's `opt.*`: jemalloc's names, types and answers, and a few of our own.

use core::ffi::c_char;
use core::sync::atomic::{AtomicBool, Ordering};

use alloc_core::ctl::node::text;
use alloc_core::ctl::{Call, Code, Node};

use alloc_core::size::{NBINS, NLEXTENTS};

use crate::hooks::Which;
use crate::kind::Kind;
use crate::names::Name;
use crate::naming::Trigger;
use crate::profiler::Profiler;
use crate::sampler::{choice, word};
use crate::settings::{Path, lg};
use crate::{HEAP, class_stats, dump, hooks, journal, recent};

type Answer = Result<(), Code>;

fn profiler() -> &'static Profiler {
    HEAP.observer()
}

/// Names that jemalloc doesn't have in a process without a profile.
fn enabled() -> Result<&'static Profiler, Code> {
    let profiler = profiler();
    if profiler.settings.enabled.load(Ordering::Relaxed) { Ok(profiler) } else { Err(Code::ENOENT) }
}

fn is_enabled() -> bool {
    enabled().is_ok()
}

/// A flag that reads as false, and may be written false only, while there is no profile.
fn flag(call: &mut Call<'_>, flag: &AtomicBool, changed: fn()) -> Answer {
    let written = call.written_bool()?;
    let before = is_enabled() && flag.load(Ordering::Relaxed);
    if let Some(on) = written {
        if is_enabled() {
            flag.store(on, Ordering::Relaxed);
            changed();
        } else if on {
            return Err(Code::ENOENT);
        }
    }
    call.read_bool(before)
}

fn active(call: &mut Call<'_>) -> Answer {
    flag(call, &profiler().settings.active, || profiler().retune())
}

fn gdump(call: &mut Call<'_>) -> Answer {
    if call.writes() {
        enabled()?;
    }
    flag(call, &profiler().settings.maximum_dumps, || {})
}

fn thread_active_init(call: &mut Call<'_>) -> Answer {
    if call.writes() {
        enabled()?;
    }
    flag(call, &profiler().settings.thread_active_init, || profiler().retune())
}

fn enable(call: &mut Call<'_>) -> Answer {
    let written = call.written_bool()?;
    let before = is_enabled();
    if let Some(on) = written {
        profiler().enable(on);
    }
    call.read_bool(before)
}

fn dump(call: &mut Call<'_>) -> Answer {
    dump_of(call, Kind::Heap, Trigger::Manual)
}

fn peak_dump(call: &mut Call<'_>) -> Answer {
    if !enabled()?.peak.is_found() {
        return Err(Code::ENOENT);
    }
    dump_of(call, Kind::Peak, Trigger::Peak)
}

fn waste_dump(call: &mut Call<'_>) -> Answer {
    dump_of(call, Kind::Waste, Trigger::Manual)
}

/// Writes a dump to the path that is written, or under the next number.
fn dump_of(call: &mut Call<'_>, kind: Kind, trigger: Trigger) -> Answer {
    enabled()?;
    call.write_only()?;
    let name = call.written::<*const c_char>()?.unwrap_or(core::ptr::null());
    // SAFETY: the caller passes null or a C string.
    let result = match unsafe { text(name) } {
        Some(path) => dump::to_path(kind, path),
        None => dump::to_numbered(kind, trigger),
    };
    result.map_err(|_| Code::EFAULT)
}

fn lifetime_dump(call: &mut Call<'_>) -> Answer {
    dump_of(call, Kind::Lifetime, Trigger::Manual)
}

fn slack_dump(call: &mut Call<'_>) -> Answer {
    dump_of(call, Kind::Slack, Trigger::Manual)
}

fn rss_dump(call: &mut Call<'_>) -> Answer {
    dump_of(call, Kind::Resident, Trigger::Manual)
}

fn log_start(call: &mut Call<'_>) -> Answer {
    let profiler = enabled()?;
    call.write_only()?;
    let name = call.written::<*const c_char>()?.unwrap_or(core::ptr::null());
    // SAFETY: the caller passes null or a C string.
    let path = Path::new(unsafe { text(name) }.unwrap_or(b"")).ok_or(Code::EFAULT)?;
    profiler.watch();
    if !profiler.journal.start(path) {
        return Err(Code::EFAULT);
    }
    profiler.tell_exit();
    Ok(())
}

fn log_stop(call: &mut Call<'_>) -> Answer {
    enabled()?;
    call.void()?;
    if journal::stop() { Ok(()) } else { Err(Code::EFAULT) }
}

fn peak(call: &mut Call<'_>) -> Answer {
    let written = call.written_bool()?;
    HEAP.ensure_booted();
    let before = profiler().peak.is_on();
    match written {
        Some(on) if on != before => profiler().watch_peak(on),
        _ => {}
    }
    call.read_bool(before)
}

fn prefix(call: &mut Call<'_>) -> Answer {
    let profiler = enabled()?;
    call.write_only()?;
    if let Some(name) = call.written::<*const c_char>()? {
        // SAFETY: the caller passes null or a C string.
        let path = unsafe { text(name) }.and_then(Path::new).ok_or(Code::EFAULT)?;
        *profiler.settings.prefix.lock() = path;
    }
    Ok(())
}

fn reset(call: &mut Call<'_>) -> Answer {
    let profiler = enabled()?;
    call.write_only()?;
    let written = call.written::<usize>()?;
    if let Some(lg) = written {
        profiler.set_interval(1 << lg.min(63));
    }
    profiler.reset();
    Ok(())
}

fn interval(call: &mut Call<'_>) -> Answer {
    call.read_only()?;
    call.read(profiler().settings.dump_interval.load(Ordering::Relaxed))
}

fn lg_sample(call: &mut Call<'_>) -> Answer {
    call.read_only()?;
    call.read(lg(profiler().settings.interval.load(Ordering::Relaxed)))
}

fn sample(call: &mut Call<'_>) -> Answer {
    let written = call.written::<usize>()?;
    let before = profiler().settings.interval.load(Ordering::Relaxed) as usize;
    match written {
        Some(0) => return Err(Code::EINVAL),
        Some(bytes) => profiler().set_interval(bytes as u64),
        None => {}
    }
    call.read(before)
}

fn epoch(call: &mut Call<'_>) -> Answer {
    if call.written::<u64>()?.is_some() {
        profiler().next_epoch();
    }
    call.read(u64::from(profiler().epoch.load(Ordering::Relaxed)))
}

fn thread_active(call: &mut Call<'_>) -> Answer {
    if call.writes() {
        enabled()?;
    }
    let written = call.written_bool()?;
    let init = profiler().settings.thread_active_init.load(Ordering::Relaxed);
    let before = HEAP.with_slot(|slot| match slot.words[word::CHOICES] & (choice::ACTIVE | choice::INACTIVE) {
        0 => init,
        chosen => chosen == choice::ACTIVE,
    });
    if let Some(on) = written {
        HEAP.with_slot(|slot| {
            let choices = &mut slot.words[word::CHOICES];
            *choices &= !(choice::ACTIVE | choice::INACTIVE);
            *choices |= if on { choice::ACTIVE } else { choice::INACTIVE };
        })
        .ok_or(Code::EAGAIN)?;
        HEAP.redraw_wait();
    }
    call.read_bool(is_enabled() && before.unwrap_or(false))
}

fn thread_name(call: &mut Call<'_>) -> Answer {
    let profiler = enabled()?;
    let by_system = profiler.settings.system_names.load(Ordering::Relaxed);
    call.read_xor_write()?;
    let Some(given) = call.written::<*const c_char>()? else {
        let names = &profiler.names;
        let name = HEAP.with_slot(|slot| if by_system { names.present(slot) } else { names.chosen(slot) });
        return call.read_text(name.unwrap_or(c""));
    };
    if by_system {
        return Err(Code::ENOENT);
    }
    // SAFETY: the caller passes null or a C string.
    let given = unsafe { text(given) }.ok_or(Code::EINVAL)?;
    if !given.iter().all(|&b| b.is_ascii_graphic() || b == b' ' || b == b'\t') {
        return Err(Code::EINVAL);
    }
    let mut name: Name = [0; 16];
    let length = given.len().min(name.len() - 1);
    name[..length].copy_from_slice(&given[..length]);
    HEAP.with_slot(|slot| profiler.names.set(slot, name)).ok_or(Code::EAGAIN)
}

/// A name that is only read.
macro_rules! read_only {
    ($name:literal, |$profiler:ident, $call:ident| $read:expr) => {
        Node {
            name: $name,
            handler: |$call| {
                $call.read_only()?;
                // The configuration is read when the heap boots.
                HEAP.ensure_booted();
                let $profiler = profiler();
                $read
            },
        }
    };
}

fn on(flag: &AtomicBool) -> bool {
    flag.load(Ordering::Relaxed)
}

/// All names.
pub static NODES: &[Node] = &[
    Node { name: "prof.active", handler: active },
    Node { name: "prof.dump", handler: dump },
    Node { name: "prof.peak_dump", handler: peak_dump },
    Node { name: "prof.waste_dump", handler: waste_dump },
    Node { name: "prof.lifetime_dump", handler: lifetime_dump },
    Node { name: "prof.slack_dump", handler: slack_dump },
    Node { name: "prof.rss_dump", handler: rss_dump },
    Node { name: "prof.log_start", handler: log_start },
    Node { name: "prof.log_stop", handler: log_stop },
    Node { name: "prof.stats.bins.<i>.live", handler: |c| class_stats::control(c, 0, NBINS, true) },
    Node { name: "prof.stats.bins.<i>.accum", handler: |c| class_stats::control(c, 0, NBINS, false) },
    Node { name: "prof.stats.lextents.<i>.live", handler: |c| class_stats::control(c, NBINS, NLEXTENTS, true) },
    Node { name: "prof.stats.lextents.<i>.accum", handler: |c| class_stats::control(c, NBINS, NLEXTENTS, false) },
    Node { name: "experimental.prof_recent.alloc_max", handler: recent::alloc_max },
    Node { name: "experimental.prof_recent.alloc_dump", handler: recent::alloc_dump },
    Node { name: "experimental.hooks.prof_backtrace", handler: |c| hooks::control(c, Which::Backtrace) },
    Node { name: "experimental.hooks.prof_dump", handler: |c| hooks::control(c, Which::Dumped) },
    Node { name: "experimental.hooks.prof_sample", handler: |c| hooks::control(c, Which::Sampled) },
    Node { name: "experimental.hooks.prof_sample_free", handler: |c| hooks::control(c, Which::Freed) },
    Node { name: "prof.peak", handler: peak },
    Node { name: "prof.prefix", handler: prefix },
    Node { name: "prof.reset", handler: reset },
    Node { name: "prof.gdump", handler: gdump },
    Node { name: "prof.interval", handler: interval },
    Node { name: "prof.lg_sample", handler: lg_sample },
    Node { name: "prof.thread_active_init", handler: thread_active_init },
    Node { name: "prof.enable", handler: enable },
    Node { name: "prof.sample", handler: sample },
    Node { name: "prof.epoch", handler: epoch },
    Node { name: "thread.prof.active", handler: thread_active },
    Node { name: "thread.prof.name", handler: thread_name },
    read_only!("opt.prof", |p, c| c.read_bool(p.settings.configured().enabled)),
    read_only!("opt.prof_active", |p, c| c.read_bool(p.settings.configured().active)),
    read_only!("opt.prof_thread_active_init", |p, c| c.read_bool(p.settings.configured().thread_active_init)),
    read_only!("opt.prof_prefix", |p, c| c.read_text(p.settings.configured().prefix.as_c_str())),
    read_only!("opt.lg_prof_sample", |p, c| c.read(lg(p.settings.configured().interval))),
    read_only!("opt.lg_prof_interval", |p, c| c.read(match p.settings.configured().dump_interval {
        0 => -1,
        bytes => lg(bytes) as isize,
    })),
    read_only!("opt.prof_final", |p, c| c.read_bool(on(&p.settings.final_dump))),
    read_only!("opt.prof_gdump", |p, c| c.read_bool(p.settings.configured().maximum_dumps)),
    read_only!("opt.prof_accum", |p, c| c.read_bool(on(&p.settings.accumulate))),
    read_only!("opt.prof_unbias", |p, c| c.read_bool(on(&p.settings.unbiased))),
    read_only!("opt.prof_leak", |p, c| c.read_bool(on(&p.settings.leak))),
    read_only!("opt.prof_leak_error", |p, c| c.read_bool(on(&p.settings.leak_error))),
    read_only!("opt.prof_bt_max", |p, c| c.read(p.settings.depth.load(Ordering::Relaxed))),
    read_only!("opt.prof_pid_namespace", |p, c| c.read_bool(on(&p.settings.pid_namespace))),
    read_only!("opt.prof_sys_thread_name", |p, c| c.read_bool(on(&p.settings.system_names))),
    read_only!("opt.prof_sample", |p, c| c.read(p.settings.configured().interval as usize)),
    read_only!("opt.prof_interval", |p, c| c.read(p.settings.configured().dump_interval)),
    read_only!("opt.prof_interval_ms", |p, c| c.read(p.settings.triggers.interval_ms.load(Ordering::Relaxed))),
    read_only!("opt.prof_rss_growth_pct", |p, c| c.read(p.settings.triggers.growth_percent.load(Ordering::Relaxed))),
    read_only!("opt.prof_cgroup_pct", |p, c| c.read(p.settings.triggers.limit_percent.load(Ordering::Relaxed))),
    read_only!("opt.prof_signal", |p, c| c.read(p.settings.triggers.signal.load(Ordering::Relaxed))),
    read_only!("opt.prof_keep", |p, c| c.read(p.settings.triggers.newest_kept())),
    read_only!("opt.prof_keep_largest", |p, c| c.read(p.settings.triggers.largest_kept())),
    read_only!("opt.prof_peak", |p, c| c.read_bool(on(&p.settings.peak))),
    read_only!("opt.prof_lifetime_frees", |p, c| c.read_bool(on(&p.settings.lifetime_frees))),
    read_only!("opt.prof_control", |p, c| c.read_text(p.settings.control.as_text())),
    read_only!("opt.prof_seed", |p, c| c.read(p.settings.seed().unwrap_or(u64::MAX))),
    read_only!("opt.prof_guard", |p, c| c.read(p.settings.guard.load(Ordering::Relaxed))),
    read_only!("opt.prof_log", |p, c| c.read_bool(on(&p.settings.log))),
    read_only!("opt.prof_stats", |p, c| c.read_bool(on(&p.settings.stats))),
    read_only!("opt.prof_recent_alloc_max", |p, c| c.read(p.settings.recent.load(Ordering::Relaxed))),
    read_only!("opt.prof_time_resolution", |p, c| c.read_text(p.settings.time_resolution())),
    read_only!("opt.prof_format", |p, c| c.read_text(p.settings.format_name())),
    read_only!("opt.prof_unwind", |p, c| c.read_text(p.settings.method_name())),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;
    use std::string::String;

    #[test]
    fn every_option_is_in_the_report() {
        let mut report = String::new();
        alloc_core::report::print(&HEAP, b"J", &mut |piece| report.push_str(core::str::from_utf8(piece).unwrap()));
        for name in NODES.iter().filter_map(|node| node.name.strip_prefix("opt.")) {
            assert!(report.contains(&format!("\"{name}\":")), "{name}");
        }
    }
}
