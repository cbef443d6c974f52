/*
 * The C twin: what Heddle's way of moving packets reaches in plain C, without what makes a daemon of it.
 *
 *     twin DEVICE LOCAL REMOTE PORT
 *
 * One thread between a TUN and a UDP socket, VXLAN headers, one peer. It uses the same offloads:
 * super-packets from the TUN, many packets a system call (io_uring), runs of equal datagrams (UDP_SEGMENT),
 * trains (UDP_GRO), joined TCP and UDP towards the TUN, and it looks for packets for 50 microseconds before it sleeps. It has no table, no
 * checks but the transport checksum, no TTL, no ICMP, no counters, no order kept where the kernel refuses
 * something, and knows IPv4 without options only. So it is a yardstick and no alternative.
 */
#include "../../../dataplane/native/ring.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum {
  UDP_SEGMENT_OPTION = 103,
  UDP_GRO_OPTION = 104,
  USO = 0x60, /* TUN_F_USO4 and TUN_F_USO6, which the kernel takes together only */
  GSO_UDP = 5,
  IP_LEN = 20,
  UDP_LEN = 8,
  ENCAP_LEN = 22, /* VXLAN 8, Ethernet 14 */
  ROWS = 64,
  TRAINS = 4,
  ROOM = 65536,
  SLOT = ROOM + 256,
  HEADER = 128,
  HEADERS = 4096,
  MESSAGES = 256,
  RUN_MOST = 64,
  RUN_BYTES = 65000,
  SUPER_MOST = 65535,
  SPIN_US = 50,
  BUFFER = 4 << 20,
};

static int tun, sock;
static struct ring ring;
static uint8_t *slots;
static struct sockaddr_in peer;
static const uint8_t ENCAP[ENCAP_LEN] = {8, 0, 0, 0, 0, 0, 1, 0, [20] = 8, [21] = 0};

static uint16_t get16(const uint8_t *at) { return (uint16_t)(at[0] << 8 | at[1]); }

static void put16(uint8_t *at, unsigned value) {
  at[0] = (uint8_t)(value >> 8);
  at[1] = (uint8_t)value;
}

static uint32_t get32(const uint8_t *at) { return (uint32_t)get16(at) << 16 | get16(at + 2); }

static void put32(uint8_t *at, uint32_t value) {
  put16(at, value >> 16);
  put16(at + 2, value);
}

/* RFC 1071, in the machine's byte order: a folded sum to go on from. */
__attribute__((target_clones("avx2", "default"))) static uint32_t
add(uint32_t sum, const uint8_t *at, size_t len) {
  uint64_t total = sum;
  uint32_t word;
  for (; len >= sizeof word; at += sizeof word, len -= sizeof word) {
    memcpy(&word, at, sizeof word);
    total += word;
  }
  word = 0;
  memcpy(&word, at, len);
  total += word;
  while (total >> 16 != 0) {
    total = (total & 0xffff) + (total >> 16);
  }
  return (uint32_t)total;
}

static void store(uint8_t *at, uint32_t sum) {
  uint16_t value = (uint16_t)sum;
  memcpy(at, &value, sizeof value);
}

/* Sum over the pseudo-header of a packet whose transport part has `len` bytes. */
static uint32_t pseudo(const uint8_t *ip, size_t len) {
  return add(htons(ip[9]) + htons((uint16_t)len), ip + 12, 8);
}

static void finish_ip(uint8_t *ip, size_t len) {
  put16(ip + 2, (unsigned)len);
  put16(ip + 10, 0);
  store(ip + 10, ~add(0, ip, IP_LEN));
}

/* --- out: TUN to socket --- */

static uint8_t headers[HEADERS][HEADER];
static struct iovec out_pieces[2 * HEADERS];
static struct mmsghdr out[MESSAGES];
static char out_control[MESSAGES][CMSG_SPACE(sizeof(uint16_t))];
static unsigned header_count, piece_count, out_count, run_packets;
static size_t run_size;

static void send_all(void) {
  for (unsigned done = 0; done < out_count;) {
    int sent = sendmmsg(sock, out + done, out_count - done, 0);
    done += sent > 0 ? (unsigned)sent : 1;
  }
  header_count = piece_count = out_count = run_packets = 0;
}

/* Puts a datagram behind the run before it, if it has its size, or begins another one. */
static void stage(uint8_t *head, size_t head_len, uint8_t *payload, size_t payload_len) {
  size_t size = head_len + payload_len;
  int joins = run_packets > 0 && run_packets < RUN_MOST && size <= run_size &&
              (run_packets + 1) * run_size <= RUN_BYTES;
  if (!joins) {
    struct msghdr *next = &out[out_count++].msg_hdr;
    *next = (struct msghdr){.msg_name = &peer, .msg_namelen = sizeof peer};
    next->msg_iov = out_pieces + piece_count;
    run_size = size;
    run_packets = 0;
  }
  struct msghdr *message = &out[out_count - 1].msg_hdr;
  out_pieces[piece_count++] = (struct iovec){head, head_len};
  message->msg_iovlen++;
  if (payload_len > 0) {
    out_pieces[piece_count++] = (struct iovec){payload, payload_len};
    message->msg_iovlen++;
  }
  if (++run_packets == 2) {
    message->msg_control = out_control[out_count - 1];
    message->msg_controllen = sizeof out_control[0];
    struct cmsghdr *segment = CMSG_FIRSTHDR(message);
    uint16_t bytes = (uint16_t)run_size;
    *segment = (struct cmsghdr){CMSG_LEN(sizeof bytes), IPPROTO_UDP, UDP_SEGMENT_OPTION};
    memcpy(CMSG_DATA(segment), &bytes, sizeof bytes);
  }
  if (size < run_size) {
    run_packets = RUN_MOST;
  }
}

/* Cuts a super-packet as a network card would (TSO, USO). */
static void cut(uint8_t *ip, size_t len, size_t size) {
  int is_tcp = ip[9] == IPPROTO_TCP;
  size_t upper_len = is_tcp ? (size_t)(ip[IP_LEN + 12] >> 4) * 4 : UDP_LEN;
  size_t head_len = IP_LEN + upper_len;
  uint32_t seq = get32(ip + IP_LEN + 4);
  uint16_t id = get16(ip + 4);
  for (size_t at = head_len; at < len; at += size) {
    size_t bytes = len - at < size ? len - at : size;
    uint8_t *head = headers[header_count++];
    uint8_t *inner = head + ENCAP_LEN;
    uint8_t *upper = inner + IP_LEN;
    memcpy(head, ENCAP, ENCAP_LEN);
    memcpy(inner, ip, head_len);
    put16(inner + 4, id++);
    finish_ip(inner, head_len + bytes);
    if (is_tcp) {
      put32(upper + 4, seq + (uint32_t)(at - head_len));
      upper[13] &= at + bytes < len ? (uint8_t)~0x09 : 0xff; /* FIN, PSH */
    } else {
      put16(upper + 4, (unsigned)(upper_len + bytes));
    }
    uint8_t *sum_at = upper + (is_tcp ? 16 : 6);
    put16(sum_at, 0);
    uint32_t sum = pseudo(inner, upper_len + bytes);
    store(sum_at, ~add(add(sum, upper, upper_len), ip + at, bytes));
    stage(head, ENCAP_LEN + head_len, ip + at, bytes);
  }
}

static int is_plain4(const uint8_t *ip, size_t len) { return len > IP_LEN + UDP_LEN && ip[0] == 0x45; }

static void take_inside(uint8_t *ip, size_t len, const struct virtio_net_hdr *vnet) {
  if (!is_plain4(ip, len)) {
    return;
  }
  if (vnet->gso_type != VIRTIO_NET_HDR_GSO_NONE) {
    cut(ip, len, vnet->gso_size);
    return;
  }
  if ((vnet->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) != 0) {
    uint8_t *upper = ip + vnet->csum_start;
    uint16_t sum = (uint16_t)~add(0, upper, len - vnet->csum_start);
    store(upper + vnet->csum_offset, sum == 0 ? 0xffff : sum);
  }
  memcpy(ip - ENCAP_LEN, ENCAP, ENCAP_LEN);
  stage(ip - ENCAP_LEN, ENCAP_LEN + len, NULL, 0);
}

static uint8_t *row_at(int row) {
  return slots + (size_t)row * SLOT + HEADER - sizeof(struct virtio_net_hdr);
}

/* Reads up to `count` packets into the slots from `row` on: a single one, or many by the ring. */
static int read_rows(int row, int count, ssize_t *lengths) {
  if (count == 1) {
    lengths[0] = read(tun, row_at(row), ROOM);
    return 1;
  }
  struct iovec rooms[RING_CHUNK];
  for (int i = 0; i < count; i++) {
    rooms[i] = (struct iovec){row_at(row + i), ROOM};
  }
  if (!ring_read(&ring, tun, rooms, count, lengths)) {
    errno = ring.refusal;
    perror("io_uring");
    exit(1);
  }
  return count;
}

static void breathe_out(void) {
  int is_over = 0;
  for (int row = 0, chunk = FIRST_RING_CHUNK; row < ROWS && !is_over;) {
    ssize_t lengths[RING_CHUNK];
    int most = row < READ_ALONE || ring.fd < 0 ? 1 : chunk < RING_CHUNK ? chunk : RING_CHUNK;
    int count = read_rows(row, ROWS - row < most ? ROWS - row : most, lengths);
    for (int i = 0; i < count; i++) {
      if (lengths[i] <= (ssize_t)sizeof(struct virtio_net_hdr)) {
        is_over = 1;
        continue;
      }
      struct virtio_net_hdr vnet;
      memcpy(&vnet, row_at(row + i), sizeof vnet);
      take_inside(row_at(row + i) + sizeof vnet, (size_t)lengths[i] - sizeof vnet, &vnet);
      /* The next packet may be a super-packet of the smallest segments: 64 headers, each a message. */
      if (out_count > MESSAGES - 128 || header_count > HEADERS - 2048) {
        send_all();
      }
    }
    chunk *= row < READ_ALONE ? 1 : 2;
    row += count;
  }
  send_all();
}

/* --- in: socket to TUN --- */

static struct iovec in_pieces[1024];
static struct virtio_net_hdr in_vnet;
static uint8_t *joined; /* the first packet of what is being joined, NULL = nothing is */
static size_t joined_head, joined_size, joined_payload;
static unsigned joined_packets;
static int is_joined_over;

static void write_joined(void) {
  if (joined == NULL) {
    return;
  }
  uint8_t *upper = joined + IP_LEN;
  in_vnet = (struct virtio_net_hdr){.flags = VIRTIO_NET_HDR_F_DATA_VALID};
  if (joined_packets > 1) {
    int is_tcp = joined[9] == IPPROTO_TCP;
    size_t upper_len = joined_head - IP_LEN + joined_payload;
    finish_ip(joined, IP_LEN + upper_len);
    if (!is_tcp) {
      put16(upper + 4, (unsigned)upper_len);
    }
    in_vnet = (struct virtio_net_hdr){
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
        .gso_type = is_tcp ? VIRTIO_NET_HDR_GSO_TCPV4 : GSO_UDP,
        .hdr_len = (uint16_t)joined_head,
        .gso_size = (uint16_t)joined_size,
        .csum_start = IP_LEN,
        .csum_offset = is_tcp ? 16 : 6,
    };
    store(upper + in_vnet.csum_offset, pseudo(joined, upper_len));
  }
  in_pieces[0] = (struct iovec){&in_vnet, sizeof in_vnet};
  /* What a full device refuses is lost, as everywhere. */
  if (writev(tun, in_pieces, (int)joined_packets + 1) < 0 && errno != EAGAIN) {
    perror("writev");
  }
  joined = NULL;
}

/* Whether a packet goes on where the joined ones end. */
static int continues(const uint8_t *ip, size_t head, size_t payload) {
  if (joined == NULL || is_joined_over || head != joined_head || payload > joined_size ||
      joined_packets == sizeof in_pieces / sizeof in_pieces[0] - 1 ||
      head + joined_payload + payload > SUPER_MOST || memcmp(ip + 9, joined + 9, 1) != 0 ||
      memcmp(ip + 12, joined + 12, 12) != 0) {
    return 0;
  }
  if (ip[9] == IPPROTO_UDP) {
    return joined_packets < RUN_MOST;
  }
  const uint8_t *tcp = ip + IP_LEN, *first = joined + IP_LEN;
  return get32(tcp + 4) == get32(first + 4) + (uint32_t)joined_payload &&
         memcmp(tcp + 8, first + 8, 5) == 0 && (tcp[13] & ~0x08) == (first[13] & ~0x08);
}

static void take_outside(uint8_t *ip, size_t len) {
  if (!is_plain4(ip, len)) {
    return;
  }
  uint8_t *upper = ip + IP_LEN;
  int is_tcp = ip[9] == IPPROTO_TCP;
  size_t head = IP_LEN + (is_tcp ? (size_t)(upper[12] >> 4) * 4 : UDP_LEN);
  size_t payload = head < len ? len - head : 0;
  int is_known = (is_tcp || ip[9] == IPPROTO_UDP) && payload > 0 &&
                 add(pseudo(ip, len - IP_LEN), upper, len - IP_LEN) == 0xffff;
  if (is_known && continues(ip, head, payload)) {
    in_pieces[++joined_packets] = (struct iovec){ip + head, payload};
    joined_payload += payload;
    joined[IP_LEN + 13] |= is_tcp ? upper[13] & 0x08 : 0;
  } else {
    write_joined();
    joined = ip;
    joined_head = head;
    joined_size = joined_payload = payload;
    joined_packets = 1;
    in_pieces[1] = (struct iovec){ip, len};
  }
  is_joined_over = !is_known || payload < joined_size || (is_tcp && (upper[13] & 0x09) != 0);
}

static int breathe_in(void) {
  static struct mmsghdr in[TRAINS];
  static struct iovec rooms[TRAINS];
  static char control[TRAINS][64];
  for (int i = 0; i < TRAINS; i++) {
    uint8_t *at = slots + (size_t)(ROWS + i) * SLOT + HEADER - ENCAP_LEN;
    rooms[i] = (struct iovec){at, ROOM};
    in[i].msg_hdr = (struct msghdr){.msg_iov = rooms + i, .msg_iovlen = 1, .msg_control = control[i]};
    in[i].msg_hdr.msg_controllen = sizeof control[i];
  }
  int got = recvmmsg(sock, in, TRAINS, MSG_DONTWAIT, NULL);
  for (int i = 0; i < got; i++) {
    size_t len = in[i].msg_len, size = len;
    struct cmsghdr *segment = CMSG_FIRSTHDR(&in[i].msg_hdr);
    if (segment != NULL && segment->cmsg_type == UDP_GRO_OPTION) {
      int bytes;
      memcpy(&bytes, CMSG_DATA(segment), sizeof bytes);
      size = (size_t)bytes;
    }
    for (size_t at = 0; at + ENCAP_LEN < len; at += size) {
      size_t rest = len - at < size ? len - at : size;
      take_outside((uint8_t *)rooms[i].iov_base + at + ENCAP_LEN, rest - ENCAP_LEN);
    }
  }
  write_joined();
  return got;
}

/* --- both --- */

static int64_t now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void wait_for(struct pollfd polls[2]) {
  int64_t end = now_us() + SPIN_US;
  while (poll(polls, 2, 0) == 0 && now_us() < end) {
    sched_yield();
  }
  if ((polls[0].revents | polls[1].revents) == 0) {
    poll(polls, 2, -1);
  }
}

static void must(int result, const char *what) {
  if (result < 0) {
    perror(what);
    exit(1);
  }
}

int main(int argc, char **argv) {
  if (argc != 5) {
    fputs("usage: twin DEVICE LOCAL REMOTE PORT\n", stderr);
    return 2;
  }
  struct ifreq device = {.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR};
  strncpy(device.ifr_name, argv[1], IFNAMSIZ - 1);
  must(tun = open("/dev/net/tun", O_RDWR | O_NONBLOCK), "/dev/net/tun");
  must(ioctl(tun, TUNSETIFF, &device), "TUNSETIFF");
  must(ioctl(tun, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | USO), "TUNSETOFFLOAD");

  struct sockaddr_in local = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[4]))};
  peer = local;
  inet_pton(AF_INET, argv[2], &local.sin_addr);
  inet_pton(AF_INET, argv[3], &peer.sin_addr);
  const int yes = 1, buffer = BUFFER;
  must(sock = socket(AF_INET, SOCK_DGRAM, 0), "socket");
  must(setsockopt(sock, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer), "SO_RCVBUFFORCE");
  must(setsockopt(sock, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof buffer), "SO_SNDBUFFORCE");
  must(setsockopt(sock, IPPROTO_UDP, UDP_GRO_OPTION, &yes, sizeof yes), "UDP_GRO");
  must(bind(sock, (struct sockaddr *)&local, sizeof local), "bind");

  const char *refused = ring_open(&ring);
  if (refused != NULL) {
    perror(refused); /* then every packet is a system call */
  }
  size_t bytes = (size_t)(ROWS + TRAINS) * SLOT;
  slots = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  must(slots == MAP_FAILED ? -1 : 0, "mmap");

  struct pollfd polls[2] = {{.fd = tun, .events = POLLIN}, {.fd = sock, .events = POLLIN}};
  for (;;) {
    wait_for(polls);
    if (polls[0].revents != 0) {
      breathe_out();
    }
    if (polls[1].revents != 0) {
      breathe_in();
    }
  }
}
