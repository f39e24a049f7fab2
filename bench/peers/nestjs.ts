/**
 * NestJS 11 on Fastify, as docs.nestjs.com shows.
 *
 * - "Performance (Fastify)": `NestFactory.create(AppModule, new FastifyAdapter())`; "Helmet": `app.register(helmet)`; "CORS": `enableCors`.
 * - "Rate Limiting": `ThrottlerModule.forRoot` with two named definitions, `ThrottlerGuard` bound globally: both by address, which is its default.
 * - "Authentication": an `AuthGuard` with `JwtService.verifyAsync`, bound globally, and its `@Public()`.
 * - "Authorization": a decorator of metadata and a guard that reads it with `Reflector`, here for permissions.
 * - "Validation": the global `ValidationPipe` with `whitelist` and `forbidNonWhitelisted`, class-validator.
 * - "Serialization": `ClassSerializerInterceptor` and an entity whose hidden fields are `@Exclude()`.
 */
import 'reflect-metadata'
import type { KeyObject } from 'node:crypto'
import helmet from '@fastify/helmet'
import {
  Body, ClassSerializerInterceptor, Controller, ForbiddenException, Get, HttpCode, Injectable, Module, Param, Post, SetMetadata, UnauthorizedException,
  ValidationPipe, type CanActivate, type ExecutionContext
} from '@nestjs/common'
import { APP_GUARD, APP_INTERCEPTOR, NestFactory, Reflector } from '@nestjs/core'
import { JwtModule, JwtService } from '@nestjs/jwt'
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify'
import { ThrottlerGuard, ThrottlerModule } from '@nestjs/throttler'
import { Exclude } from 'class-transformer'
import { ArrayMaxSize, IsArray, IsInt, IsString, Length, Max, MaxLength, Min } from 'class-validator'
import { HOURS_PATH, NOTES_PATH, ORDER_PATH, ORIGIN, READ, readHours, readOrder, WINDOWS, WRITE, writeNote, type Build } from '../question.js'
import { SECRET, type Claims } from './shapes.js'

const Public = () => SetMetadata('isPublic', true)
const RequirePermission = (permission: string) => SetMetadata('permission', permission)

class OrderParams {
  @IsString() @MaxLength(32)
  orderId!: string
}

class CreateNote {
  @IsString() @Length(1, 200)
  title!: string

  @IsString() @Length(10, 10_000)
  content!: string

  @IsArray() @ArrayMaxSize(10) @IsString({ each: true }) @MaxLength(50, { each: true })
  tags!: string[]

  @IsInt() @Min(0) @Max(9)
  priority!: number
}

class OrderEntity {
  @Exclude()
  declare cardFingerprint: string

  @Exclude()
  declare riskScore: number

  constructor (partial: object) {
    Object.assign(this, partial)
  }
}

class NoteEntity {
  @Exclude()
  declare authorAddress: string

  @Exclude()
  declare spamScore: number

  constructor (partial: object) {
    Object.assign(this, partial)
  }
}

@Injectable()
class AuthGuard implements CanActivate {
  private readonly jwt: JwtService
  private readonly reflector: Reflector
  constructor (jwt: JwtService, reflector: Reflector) {
    this.jwt = jwt
    this.reflector = reflector
  }

  async canActivate (context: ExecutionContext): Promise<boolean> {
    if (this.reflector.getAllAndOverride<boolean>('isPublic', [context.getHandler(), context.getClass()])) return true
    const request = context.switchToHttp().getRequest()
    const [type, token] = request.headers.authorization?.split(' ') ?? []
    if (type !== 'Bearer' || token === undefined) throw new UnauthorizedException()
    try {
      request.user = await this.jwt.verifyAsync<Claims>(token)
    } catch {
      throw new UnauthorizedException()
    }
    return true
  }
}

@Injectable()
class PermissionsGuard implements CanActivate {
  private readonly reflector: Reflector
  constructor (reflector: Reflector) {
    this.reflector = reflector
  }

  canActivate (context: ExecutionContext): boolean {
    const permission = this.reflector.getAllAndOverride<string | undefined>('permission', [context.getHandler(), context.getClass()])
    if (permission === undefined) return true
    const { user } = context.switchToHttp().getRequest() as { user: Claims }
    if (!user.permissions.includes(permission)) throw new ForbiddenException()
    return true
  }
}

@Controller()
class ShopController {
  @Get(ORDER_PATH) @RequirePermission(READ)
  async order (@Param() _params: OrderParams): Promise<OrderEntity> {
    return new OrderEntity(await readOrder())
  }

  @Post(NOTES_PATH) @HttpCode(200) @RequirePermission(WRITE)
  async note (@Body() body: CreateNote): Promise<NoteEntity> {
    return new NoteEntity(await writeNote({ body }))
  }

  @Get(HOURS_PATH) @Public()
  async hours (): Promise<object> {
    return readHours()
  }
}

const moduleWith = (max: number, secret: string | KeyObject) => {
  @Module({
    imports: [
      ThrottlerModule.forRoot([{ name: 'minute', ttl: WINDOWS[0] * 1000, limit: max }, { name: 'hour', ttl: WINDOWS[1] * 1000, limit: max }]),
      JwtModule.register({ global: true, secret: secret as string, signOptions: { expiresIn: '1h' } }),
    ],
    controllers: [ShopController],
    providers: [
      { provide: APP_GUARD, useClass: ThrottlerGuard },
      { provide: APP_GUARD, useClass: AuthGuard },
      { provide: APP_GUARD, useClass: PermissionsGuard },
      { provide: APP_INTERCEPTOR, useClass: ClassSerializerInterceptor },
    ],
  })
  class AppModule {}
  return AppModule
}

export const buildWith = (secret: string | KeyObject): Build => async ({ people, max }) => {
  const app = await NestFactory.create<NestFastifyApplication>(moduleWith(max, secret), new FastifyAdapter(), { logger: false })
  await app.register(helmet)
  app.enableCors({ origin: [ORIGIN], credentials: true })
  app.useGlobalPipes(new ValidationPipe({ whitelist: true, forbidNonWhitelisted: true }))
  await app.listen(0, '127.0.0.1')
  const jwt = app.get(JwtService)
  const sign = (sub: string, permissions: string[]) => jwt.sign({ sub, permissions } satisfies Claims)
  return {
    port: (app.getHttpServer().address() as { port: number }).port,
    tokens: Array.from({ length: people }, (_none, i) => sign(`user-${i}`, [READ, WRITE])),
    powerless: sign('guest', []),
  }
}

export const build = buildWith(SECRET)
