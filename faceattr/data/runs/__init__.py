"""Run folders: planned, committed shard by shard, verified, published. The same for every job."""
