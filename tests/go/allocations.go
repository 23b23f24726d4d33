// allocations: blocks of many sizes by inlined, recursive, generic and method calls; writes heap.pb.gz, allocs.pb.gz and,
// after freeing a part, later.pb.gz into the directory that it is given.
package main

import (
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
)

type list[T any] struct {
	next  *list[T]
	value T
}

func (l *list[T]) push(value T) *list[T] { return &list[T]{l, value} }

type cache struct{ entries map[string][]byte }

//go:noinline
func (c *cache) insert(key string, size int) { c.entries[key] = fill(size) }

// Small enough to be inlined.
func fill(size int) []byte { return make([]byte, size) }

//go:noinline
func descend(depth int, into *[][]byte) {
	*into = append(*into, fill(512*depth+1))
	if depth > 0 {
		descend(depth-1, into)
	}
}

//go:noinline
func text(n int) string { return strings.Repeat("x", n) }

func write(name, kind string) {
	runtime.GC()
	file, err := os.Create(filepath.Join(os.Args[1], name))
	if err == nil {
		err = pprof.Lookup(kind).WriteTo(file, 0)
	}
	if err == nil {
		err = file.Close()
	}
	if err != nil {
		panic(err)
	}
}

func main() {
	runtime.MemProfileRate = 4096
	kept := &cache{map[string][]byte{}}
	var numbers *list[int]
	var names *list[string]
	var blocks [][]byte
	each := func(n int) {
		numbers = numbers.push(n)
		names = names.push(text(n % 700))
		kept.insert(text(20+n%50), 100+n%9000)
		if n%40 == 0 {
			descend(12, &blocks)
		}
		_ = fill(n)
	}
	for n := 0; n < 4000; n++ {
		each(n)
	}
	write("heap.pb.gz", "heap")
	write("allocs.pb.gz", "allocs")
	blocks = blocks[:0:0]
	names = nil
	for n := 0; n < 4000; n++ {
		numbers = numbers.push(n)
	}
	write("later.pb.gz", "heap")
	runtime.KeepAlive([]any{kept, numbers, names, blocks})
}
