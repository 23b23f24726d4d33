// Workers that replace random blocks of an array, end, and leave the array to their successors: blocks outlive the
// threads that made them and are freed by others. Stands for servers. The work is fixed, not the time.
//
//   larson THREADS GENERATIONS BLOCKS REPLACEMENTS LARGEST
#include <thread>
#include <vector>

#include "common.h"

struct Block { uint32_t size; uint32_t stamp; };

// A thread writes its own all the time: it shares no cache line, nor a pair of them, with another thread.
struct alignas(128) Share {
    std::vector<Block*> blocks;
    uint64_t sum = 0;
};

static Block* made(Random& random, uint64_t largest) {
    uint32_t size = sizeof(Block) + random.below(largest - sizeof(Block));
    auto* block = static_cast<Block*>(checked(malloc(size)));
    *block = {size, uint32_t(random.next())};
    reinterpret_cast<char*>(block)[size - 1] = 1;
    return block;
}

static void work(Share* share, uint64_t seed, uint64_t replacements, uint64_t largest) {
    Random random(seed);
    for (uint64_t i = 0; i < replacements; i++) {
        Block*& place = share->blocks[random.below(share->blocks.size())];
        share->sum = mix(share->sum, place->size ^ place->stamp);
        free(place);
        place = made(random, largest);
    }
}

int main(int argc, char** argv) {
    uint64_t threads = number(argc, argv, 1), generations = number(argc, argv, 2), blocks = number(argc, argv, 3);
    uint64_t replacements = number(argc, argv, 4), largest = number(argc, argv, 5), sum = 0;
    std::vector<Share> shares(threads);
    Random random(1);
    for (Share& share : shares)
        for (uint64_t i = 0; i < blocks; i++) share.blocks.push_back(made(random, largest));
    for (uint64_t generation = 0; generation < generations; generation++) {
        std::vector<std::thread> workers;
        for (uint64_t i = 0; i < threads; i++)
            workers.emplace_back(work, &shares[(i + generation) % threads], generation * threads + i + 2, replacements, largest);
        for (std::thread& worker : workers) worker.join();
    }
    for (Share& share : shares) {
        sum = mix(sum, share.sum);
        for (Block* block : share.blocks) free(block);
    }
    finish(sum);
    return 0;
}
