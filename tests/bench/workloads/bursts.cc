// Fills and empties the heap over and over: tens of thousands of small blocks, freed in the order they came, backwards,
// or at random, and the sizes change from burst to burst. Stands for requests, frames, passes.
//
//   bursts BURSTS BLOCKS
#include <algorithm>
#include <vector>

#include "common.h"

int main(int argc, char** argv) {
    uint64_t bursts = number(argc, argv, 1), blocks = number(argc, argv, 2), sum = 0;
    Random random(1);
    std::vector<uint64_t*> live(blocks);
    for (uint64_t burst = 0; burst < bursts; burst++) {
        unsigned high = 5 + burst % 6;
        for (uint64_t i = 0; i < blocks; i++) {
            live[i] = static_cast<uint64_t*>(checked(malloc(random.size(3, high))));
            *live[i] = i;
        }
        if (burst % 3 == 1) std::reverse(live.begin(), live.end());
        if (burst % 3 == 2)
            for (uint64_t i = blocks - 1; i > 0; i--) std::swap(live[i], live[random.below(i + 1)]);
        for (uint64_t* block : live) {
            sum = mix(sum, *block);
            free(block);
        }
    }
    finish(sum);
    return 0;
}
