// Blocks for vectors, pages and DMA: by posix_memalign and aligned_alloc, at 32 bytes to 64 KiB, some hundreds alive.
//
//   aligned BLOCKS LIVE
#include <vector>

#include "common.h"

int main(int argc, char** argv) {
    uint64_t blocks = number(argc, argv, 1), live = number(argc, argv, 2), sum = 0;
    Random random(3);
    std::vector<void*> held(live, nullptr);
    for (uint64_t i = 0; i < blocks; i++) {
        // Mostly cache lines and vectors, now and then pages.
        size_t align = random.below(50) == 0 ? 4096u << random.below(5) : 32u << random.below(3);
        size_t size = align >= 4096 ? align * (1 + random.below(3)) : random.size(5, 11);
        void* block = nullptr;
        if (i % 2 == 0) {
            if (posix_memalign(&block, align, size) != 0) block = nullptr;
        } else {
            block = aligned_alloc(align, (size + align - 1) / align * align);
        }
        checked(block);
        if (reinterpret_cast<uintptr_t>(block) % align != 0) return 1;
        static_cast<unsigned char*>(block)[0] = static_cast<unsigned char>(i);
        sum = mix(sum, size);
        void*& place = held[random.below(live)];
        free(place);
        place = block;
    }
    for (void* block : held) free(block);
    finish(sum);
}
