// Each thread gets a small block from its parent, writes to it again and again, drops it, and takes small ones of its
// own: blocks of different threads on one cache line would be felt.
//
//   scratch THREADS ROUNDS WRITES
#include <thread>
#include <vector>

#include "common.h"

static void work(unsigned char* block, size_t size, uint64_t rounds, uint64_t writes, uint64_t* out) {
    uint64_t sum = 0;
    for (uint64_t round = 0; round < rounds; round++) {
        volatile unsigned char* bytes = block;
        for (uint64_t i = 0; i < writes; i++) bytes[i % size] = static_cast<unsigned char>(bytes[i % size] + 1);
        sum = mix(sum, size);
        free(block);
        block = static_cast<unsigned char*>(checked(calloc(1, size)));
    }
    free(block);
    *out = sum;
}

int main(int argc, char** argv) {
    uint64_t threads = number(argc, argv, 1), rounds = number(argc, argv, 2), writes = number(argc, argv, 3), sum = 0;
    std::vector<uint64_t> sums(threads);
    std::vector<std::thread> workers;
    for (uint64_t i = 0; i < threads; i++) {
        auto* block = static_cast<unsigned char*>(checked(calloc(1, 8 + i)));
        workers.emplace_back(work, block, 8 + i, rounds, writes, &sums[i]);
    }
    for (std::thread& worker : workers) worker.join();
    for (uint64_t part : sums) sum = mix(sum, part);
    finish(sum);
}
