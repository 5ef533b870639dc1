;; Works, then reads outside its memory.
;; expect: trap
(module (memory (export "memory") 1)
  (func (export "_start") (local i32)
    (loop $l (local.set 0 (i32.add (local.get 0) (i32.const 1)))
      (br_if $l (i32.lt_u (local.get 0) (i32.const 1000000))))
    (drop (i64.load offset=4294967288 (i32.const 65536)))))
