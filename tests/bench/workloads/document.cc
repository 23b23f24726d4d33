// A text of nested lists and objects is parsed to a tree, the tree is copied with changes, written, and dropped as a
// whole. Stands for parsers of JSON and XML, for compilers' trees.
//
//   document ROUNDS NODES
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common.h"

struct Node {
    std::string text;
    std::vector<std::pair<std::string, std::unique_ptr<Node>>> members;
};

static std::unique_ptr<Node> parse(const std::string& text, size_t& at) {
    auto node = std::make_unique<Node>();
    if (text[at] != '{') {
        size_t end = text.find_first_of(",}", at);
        node->text = text.substr(at, end - at);
        at = end;
        return node;
    }
    while (text[at] != '}') {
        size_t colon = text.find(':', ++at);
        std::string name = text.substr(at, colon - at);
        at = colon + 1;
        node->members.emplace_back(std::move(name), parse(text, at));
    }
    at++;
    return node;
}

static std::unique_ptr<Node> changed(const Node& node) {
    auto copy = std::make_unique<Node>();
    copy->text = node.text.empty() ? "" : node.text + "!";
    for (const auto& [name, child] : node.members) copy->members.emplace_back("the " + name, changed(*child));
    return copy;
}

static void written(const Node& node, std::string& out) {
    out += node.text;
    for (const auto& [name, child] : node.members) {
        out += name;
        written(*child, out);
    }
}

static void made(Random& random, uint64_t& nodes, int depth, std::string& out) {
    out += '{';
    for (uint64_t i = 0, count = 1 + random.below(8); i < count; i++) {
        out += i == 0 ? "" : ",";
        out += "name" + std::to_string(random.below(1000)) + ":";
        if (nodes > 0 && depth < 12 && random.below(3) != 0) {
            nodes--;
            made(random, nodes, depth + 1, out);
        } else {
            out += std::string(1 + random.below(40), 'x');
        }
    }
    out += '}';
}

int main(int argc, char** argv) {
    uint64_t rounds = number(argc, argv, 1), nodes = number(argc, argv, 2), sum = 0;
    Random random(11);
    std::string text = "{";
    for (uint64_t left = nodes; left > 0;) {
        text += text.size() == 1 ? "item:" : ",item:";
        left--;
        made(random, left, 0, text);
    }
    text += '}';
    for (uint64_t round = 0; round < rounds; round++) {
        size_t at = 0;
        auto tree = parse(text, at);
        auto other = changed(*tree);
        tree.reset();
        std::string out;
        written(*other, out);
        sum = mix(sum, out.size());
    }
    finish(sum);
}
