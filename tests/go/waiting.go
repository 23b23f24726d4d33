// waiting: goroutines with labels that wait for locks and channels; writes block.pb.gz, mutex.pb.gz, goroutine.pb.gz and
// threadcreate.pb.gz into the directory that it is given.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"sync"
	"time"
)

var lock sync.Mutex

//go:noinline
func hold(rounds int) {
	for i := 0; i < rounds; i++ {
		lock.Lock()
		time.Sleep(20 * time.Microsecond)
		lock.Unlock()
	}
}

//go:noinline
func relay(depth int, in <-chan int, out chan<- int) {
	if depth > 0 {
		next := make(chan int)
		go relay(depth-1, in, next)
		in = next
	}
	for value := range in {
		out <- value + 1
	}
	close(out)
}

func main() {
	runtime.SetBlockProfileRate(1)
	runtime.SetMutexProfileFraction(1)
	var done sync.WaitGroup
	for i := 0; i < 6; i++ {
		i := i
		done.Add(1)
		labels := pprof.Labels("worker", fmt.Sprintf("w%d", i%3), "path", "/a,b")
		go pprof.Do(context.Background(), labels, func(context.Context) {
			hold(10 * (i + 1))
			done.Done()
		})
	}
	in, out := make(chan int), make(chan int)
	go relay(20, in, out)
	go func() {
		for i := 0; i < 200; i++ {
			in <- i
		}
		close(in)
	}()
	for range out {
	}
	done.Wait()
	// Some that never end, for the profile of goroutines.
	for i := 0; i < 10; i++ {
		labels := pprof.Labels("kind", fmt.Sprintf("idle-%d", i%2))
		go pprof.Do(context.Background(), labels, func(context.Context) { select {} })
	}
	time.Sleep(10 * time.Millisecond)
	for _, kind := range []string{"block", "mutex", "goroutine", "threadcreate"} {
		file, err := os.Create(filepath.Join(os.Args[1], kind+".pb.gz"))
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
}
