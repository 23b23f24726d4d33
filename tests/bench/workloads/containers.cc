// The standard containers with small strings as keys: maps that fill, are searched, lose half, and fill again. Stands
// for C++ as it is commonly written.
//
//   containers ROUNDS KEYS
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "common.h"

int main(int argc, char** argv) {
    uint64_t rounds = number(argc, argv, 1), keys = number(argc, argv, 2), sum = 0;
    Random random(7);
    std::map<std::string, std::vector<uint32_t>> ordered;
    std::unordered_map<uint64_t, std::string> hashed;
    for (uint64_t round = 0; round < rounds; round++) {
        for (uint64_t i = 0; i < keys; i++) {
            uint64_t key = random.below(keys * 2);
            std::string name = "a key of some length: " + std::to_string(key);
            ordered[name].push_back(static_cast<uint32_t>(i));
            hashed[key] = name + std::string(key % 40, '.');
        }
        for (uint64_t i = 0; i < keys; i++) {
            auto found = hashed.find(random.below(keys * 2));
            if (found != hashed.end()) sum = mix(sum, found->second.size());
        }
        for (auto place = ordered.begin(); place != ordered.end();)
            place = random.below(2) == 0 ? ordered.erase(place) : std::next(place);
        for (uint64_t i = 0; i < keys; i++) hashed.erase(random.below(keys * 2));
        sum = mix(sum, ordered.size() * 31 + hashed.size());
    }
    finish(sum);
}
