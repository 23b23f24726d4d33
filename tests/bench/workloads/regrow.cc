// Buffers that grow by realloc, many at a time and in turn: strings of bytes to kilobytes, tables to megabytes, then
// cut to size. Stands for parsers, encoders, dynamic arrays.
//
//   regrow ROUNDS BUFFERS
#include <vector>

#include "common.h"

struct Buffer { unsigned char* bytes; size_t length, room, wanted; };

static void append(Buffer& buffer, size_t count, unsigned char stamp, bool is_exact) {
    size_t length = buffer.length + count;
    if (length > buffer.room) {
        buffer.room = is_exact ? length : length + length / 2;
        buffer.bytes = static_cast<unsigned char*>(checked(realloc(buffer.bytes, buffer.room)));
    }
    memset(buffer.bytes + buffer.length, stamp, count);
    buffer.length = length;
}

int main(int argc, char** argv) {
    uint64_t rounds = number(argc, argv, 1), count = number(argc, argv, 2), sum = 0;
    Random random(1);
    for (uint64_t round = 0; round < rounds; round++) {
        std::vector<Buffer> buffers(count);
        for (Buffer& buffer : buffers) {
            // One in 64 is a table of up to 8 MiB, the others are strings of up to 16 KiB.
            buffer.wanted = random.below(64) == 0 ? random.size(19, 23) : random.size(5, 14);
        }
        for (uint64_t open = count; open > 0;) {
            Buffer& buffer = buffers[random.below(count)];
            if (buffer.length >= buffer.wanted) {
                open -= buffer.wanted != 0;
                if (buffer.wanted != 0) {
                    buffer.bytes = static_cast<unsigned char*>(checked(realloc(buffer.bytes, buffer.length)));
                    buffer.wanted = 0;
                }
                continue;
            }
            bool is_table = buffer.wanted > 1 << 18;
            append(buffer, is_table ? 1 + random.below(131072) : 1 + random.below(512), round, !is_table && round % 2 == 1);
        }
        for (Buffer& buffer : buffers) {
            sum = mix(sum, buffer.length + buffer.bytes[buffer.length / 2]);
            free(buffer.bytes);
        }
    }
    finish(sum);
    return 0;
}
