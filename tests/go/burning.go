// burning: work of several kinds under labels; writes cpu.pb.gz, which covers half a second or more, and cpu2.pb.gz into
// the directory that it is given.
package main

import (
	"context"
	"os"
	"path/filepath"
	"runtime/pprof"
	"sort"
	"strconv"
	"time"
)

func step(n uint64) uint64 { return n*6364136223846793005 + 1442695040888963407 }

//go:noinline
func mix(rounds int) (sum uint64) {
	for i := 0; i < rounds; i++ {
		sum = step(sum)
	}
	return
}

//go:noinline
func fibonacci(n int) int {
	if n < 2 {
		return n
	}
	return fibonacci(n-1) + fibonacci(n-2)
}

//go:noinline
func order(n int) int {
	words := make([]string, n)
	for i := range words {
		words[i] = strconv.Itoa(i * 7919 % n)
	}
	sort.Strings(words)
	return len(words[0])
}

func record(name string, least time.Duration) (sum uint64) {
	file, err := os.Create(filepath.Join(os.Args[1], name))
	if err != nil {
		panic(err)
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		panic(err)
	}
	for start := time.Now(); time.Since(start) < least; {
		work := map[string]func(){
			"mix":   func() { sum += mix(100000) },
			"count": func() { sum += uint64(fibonacci(18)) },
			"order": func() { sum += uint64(order(3000)) },
		}
		for name, do := range work {
			pprof.Do(context.Background(), pprof.Labels("work", name), func(context.Context) { do() })
		}
	}
	pprof.StopCPUProfile()
	if err := file.Close(); err != nil {
		panic(err)
	}
	return
}

func main() {
	if record("cpu.pb.gz", 500*time.Millisecond)+record("cpu2.pb.gz", 200*time.Millisecond) == 0 {
		panic("nothing was done")
	}
}
