// Buffers of 8 to 256 KiB: read, kept for a moment, dropped, in several threads. Stands for input and output, network
// buffers, codecs.
//
//   medium THREADS BUFFERS LIVE
#include <thread>
#include <vector>

#include "common.h"

static void work(uint64_t seed, uint64_t buffers, uint64_t live, uint64_t* out) {
    Random random(seed);
    std::vector<unsigned char*> held(live, nullptr);
    uint64_t sum = 0;
    for (uint64_t i = 0; i < buffers; i++) {
        size_t size = random.size(13, 18);
        unsigned char* buffer = filled(size, static_cast<unsigned char>(i));
        unsigned char*& place = held[random.below(live)];
        if (place != nullptr) sum = mix(sum, place[0]);
        free(place);
        place = buffer;
    }
    for (unsigned char* buffer : held) free(buffer);
    *out = sum;
}

int main(int argc, char** argv) {
    uint64_t threads = number(argc, argv, 1), buffers = number(argc, argv, 2), live = number(argc, argv, 3), sum = 0;
    std::vector<uint64_t> sums(threads);
    std::vector<std::thread> workers;
    for (uint64_t i = 0; i < threads; i++) workers.emplace_back(work, i + 1, buffers, live, &sums[i]);
    for (std::thread& worker : workers) worker.join();
    for (uint64_t part : sums) sum = mix(sum, part);
    finish(sum);
}
