#!/usr/bin/env bash
# Installs what `cargo build --release` has built: the library (shared and static), its headers and pkg-config file, and
# the heapsift command.
#
#   tools/install.sh [--destdir DIR] [--libdir DIR] PREFIX
#
#   PREFIX          where it is to live, such as /usr/local: an absolute path
#   --destdir DIR   put the files below DIR instead, for packaging; the pkg-config file still says PREFIX
#   --libdir DIR    where libraries go; PREFIX/lib unless said
set -euo pipefail

fail() { echo "tools/install.sh: $*" >&2; exit 2; }

destdir='' libdir='' prefix=''
while [ $# -gt 0 ]; do
    case $1 in
    --destdir | --libdir)
        [ $# -ge 2 ] || fail "$1 needs a directory"
        [ "$1" = --destdir ] && destdir=$2 || libdir=$2
        shift
        ;;
    -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; exit 0 ;;
    -*) fail "unknown option $1; see --help" ;;
    *)
        [ -z "$prefix" ] || fail "one PREFIX, not $prefix and $1"
        prefix=$1
        ;;
    esac
    shift
done
[ -n "$prefix" ] || fail "where to? see --help"
: "${libdir:=$prefix/lib}"
for path in "$prefix" "$libdir"; do
    [[ $path == /* ]] || fail "$path is not an absolute path"
    # These would mean something in the pkg-config file.
    [[ $path != *[[:space:]\$\#\\\'\"\&\|]* ]] || fail "$path: such characters do not work in a pkg-config file"
done

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
built=${CARGO_TARGET_DIR:-$root/target}/release
for file in libheapsift.so libheapsift.a heapsift; do
    [ -f "$built/$file" ] || fail "$built/$file is not there: run cargo build --release first"
done
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$root/Cargo.toml")
[ -n "$version" ] || fail "$root/Cargo.toml names no version"

put() { install -D -m "$1" "$2" "$destdir$3"; echo "$destdir$3"; }
put 755 "$built/libheapsift.so" "$libdir/libheapsift.so"
put 644 "$built/libheapsift.a" "$libdir/libheapsift.a"
put 755 "$built/heapsift" "$prefix/bin/heapsift"
for header in "$root"/include/heapsift/*.h; do
    put 644 "$header" "$prefix/include/heapsift/$(basename "$header")"
done
pc=$(mktemp)
trap 'rm -f "$pc"' EXIT
sed -e "s|@PREFIX@|$prefix|" -e "s|@LIBDIR@|$libdir|" -e "s|@VERSION@|$version|" "$root/capi/heapsift.pc.in" >"$pc"
put 644 "$pc" "$libdir/pkgconfig/heapsift.pc"
