// Threads that live for a moment: each fills a cache of many sizes, leaves a few blocks behind, and ends. Stands for a
// thread for each connection.
//
//   thread_churn WAVES THREADS BLOCKS
#include <thread>
#include <vector>

#include "common.h"

int main(int argc, char** argv) {
    uint64_t waves = number(argc, argv, 1), width = number(argc, argv, 2), blocks = number(argc, argv, 3), sum = 0;
    std::vector<unsigned char*> left(width), before(width);
    for (uint64_t wave = 0; wave < waves; wave++) {
        std::vector<std::thread> threads;
        for (uint64_t i = 0; i < width; i++)
            threads.emplace_back([&, i] {
                Random random(wave * width + i + 1);
                std::vector<unsigned char*> own(blocks);
                for (auto& block : own) block = filled(random.size(4, 13), i);
                for (auto& block : own) free(block);
                free(before[i]);
                left[i] = filled(random.size(4, 11), i + wave);
            });
        for (std::thread& thread : threads) thread.join();
        for (uint64_t i = 0; i < width; i++) sum = mix(sum, left[i][0]);
        before.swap(left);
    }
    for (unsigned char* block : before) free(block);
    finish(sum);
    return 0;
}
