import { Column, Entity, PrimaryColumn } from 'typeorm';

@Entity('users')
export class UserEntity {
  @PrimaryColumn('uuid')
  id: string;
  @Column('text')
  login: string;
  @Column('text')
  role: 'admin' | 'teacher';
  @Column('text', { name: 'password_hash', nullable: true })
  passwordHash: string | null;
  @Column('timestamptz', { name: 'created_at' })
  createdAt: Date;
  @Column('timestamptz', { name: 'disabled_at', nullable: true })
  disabledAt: Date | null;
}
