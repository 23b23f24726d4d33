// Blocks of megabytes that come and go, every page written, a few of them live at a time. Stands for images, frames of
// data, matrices.
//
//   large BLOCKS LIVE SMALLEST_MIB LARGEST_MIB
#include <vector>

#include "common.h"

int main(int argc, char** argv) {
    uint64_t blocks = number(argc, argv, 1), live = number(argc, argv, 2);
    uint64_t low = number(argc, argv, 3) << 20, high = number(argc, argv, 4) << 20, sum = 0;
    Random random(1);
    std::vector<unsigned char*> kept(live);
    for (uint64_t i = 0; i < blocks; i++) {
        unsigned char*& place = kept[random.below(live)];
        if (place != nullptr) sum = mix(sum, place[0]);
        free(place);
        place = filled(low + random.below(high - low), i);
    }
    for (unsigned char* block : kept) free(block);
    finish(sum);
    return 0;
}
