// Half of the threads make messages, the other half read and free them, by batches through a bounded queue: every free
// is another thread's block. Stands for pipelines and thread pools.
//
//   handover PAIRS BATCHES SMALLEST_BITS LARGEST_BITS
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "common.h"

struct Message { uint32_t size; uint32_t payload; };
constexpr size_t BATCH = 256, BOUND = 16;
struct Batch { Message* messages[BATCH]; };

struct Queue {
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<Batch*> batches;
    void put(Batch* batch) {
        std::unique_lock<std::mutex> lock(mutex);
        changed.wait(lock, [&] { return batches.size() < BOUND; });
        batches.push_back(batch);
        changed.notify_one();
    }
    Batch* take() {
        std::unique_lock<std::mutex> lock(mutex);
        changed.wait(lock, [&] { return !batches.empty(); });
        Batch* batch = batches.front();
        batches.pop_front();
        changed.notify_one();
        return batch;
    }
};

int main(int argc, char** argv) {
    uint64_t pairs = number(argc, argv, 1), batches = number(argc, argv, 2);
    unsigned low = number(argc, argv, 3), high = number(argc, argv, 4);
    std::vector<Queue> queues(pairs);
    std::vector<uint64_t> sums(pairs);
    std::vector<std::thread> threads;
    for (uint64_t pair = 0; pair < pairs; pair++) {
        threads.emplace_back([&, pair] {
            Random random(pair + 1);
            for (uint64_t i = 0; i < batches; i++) {
                auto* batch = static_cast<Batch*>(checked(malloc(sizeof(Batch))));
                for (Message*& message : batch->messages) {
                    uint32_t size = random.size(low, high);
                    message = static_cast<Message*>(checked(malloc(size)));
                    *message = {size, uint32_t(random.next())};
                    memset(message + 1, 7, size - sizeof(Message) < 64 ? size - sizeof(Message) : 64);
                }
                queues[pair].put(batch);
            }
        });
        threads.emplace_back([&, pair] {
            for (uint64_t i = 0; i < batches; i++) {
                Batch* batch = queues[pair].take();
                for (Message* message : batch->messages) {
                    sums[pair] = mix(sums[pair], message->size ^ message->payload);
                    free(message);
                }
                free(batch);
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    uint64_t sum = 0;
    for (uint64_t part : sums) sum = mix(sum, part);
    finish(sum);
    return 0;
}
