// A store of records that live long, with churn: sizes change from phase to phase, random ones are replaced, most are
// dropped at the end of a phase but for one in eight. Stands for caches and databases in memory: what counts is the memory.
//
//   long_lived PHASES RECORDS CHURN
#include <vector>

#include "common.h"

int main(int argc, char** argv) {
    uint64_t phases = number(argc, argv, 1), records = number(argc, argv, 2), churn = number(argc, argv, 3), sum = 0;
    Random random(1);
    std::vector<unsigned char*> store(records);
    for (uint64_t phase = 0; phase < phases; phase++) {
        unsigned low = 4 + phase % 3, high = 9 + phase % 3;
        for (auto& record : store)
            if (record == nullptr) record = filled(random.size(low, high), random.next());
        for (uint64_t i = 0; i < churn; i++) {
            unsigned char*& record = store[random.below(records)];
            unsigned char* fresh = filled(random.below(100) == 0 ? random.size(12, 16) : random.size(low, high), random.next());
            sum = mix(sum, record[0]);
            free(record);
            record = fresh;
        }
        for (auto& record : store)
            if (random.below(8) != 0) {
                sum = mix(sum, record[0]);
                free(record);
                record = nullptr;
            }
    }
    finish(sum);
    return 0;
}
